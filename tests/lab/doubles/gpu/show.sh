#!/bin/sh
# Makes the GPU double visible after a boot, as a driver would: PCI entries, module, device nodes.
# Nothing is behind them; the nodes are /dev/null under NVIDIA's names.
set -eu
data=/usr/lib/remotedl-lab-gpu
mountpoint -q /sys/bus/pci/devices || mount --bind $data/root/sys/bus/pci/devices /sys/bus/pci/devices
mountpoint -q /sys/module ||
    mount -t overlay overlay -o "lowerdir=$data/root/sys/module:/sys/module" /sys/module
if [ -d /proc/driver ] && ! mountpoint -q /proc/driver; then
    mount --bind $data/root/proc/driver /proc/driver
fi
for node in nvidiactl nvidia-uvm $(sed 's/|.*//; s/^/nvidia/' $data/gpus); do
    [ -e "/dev/$node" ] || mknod -m 666 "/dev/$node" c 1 3
done
