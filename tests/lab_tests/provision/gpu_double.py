"""A GPU that is none: recorded answers of an H100's nvidia-smi, and files like those of /sys.

`put_gpu` lays them down on a host; `gather(remote, sys_root=SYS_ROOT)` then sees a GPU. What
this cannot show: that anything computes.
"""

from __future__ import annotations

from remotedl.provision.frame import read_frame
from tests.lab.host import Host
from tests.unit.provision.rendering import CASES

SYS_ROOT = "/srv/gpu-double"
UUID = "GPU-00000000-0000-0000-0000-000000000001"
OLD_MODULE = "/run/old-module"
"""While this is there, the driver is as after an upgrade without a reboot, which takes it away."""
SMI = f"""\
#!/bin/sh
# a double of nvidia-smi
if [ -e {OLD_MODULE} ]; then
    echo "Failed to initialize NVML: Driver/library version mismatch"
    echo "NVML library version: 580.173"
    exit 18
fi
case "$*" in
"-q -x") cat {SYS_ROOT}/nvidia-smi.xml ;;
-L) echo "GPU 0: NVIDIA H100 80GB HBM3 (UUID: {UUID})" ;;
*) echo "the double of nvidia-smi knows no: $*" >&2; exit 2 ;;
esac
"""


def put_gpu(host: Host) -> None:
    """One H100 with its driver loaded."""
    recorded = read_frame((CASES / "h100-in-a-container.facts").read_bytes())["smi"].text
    device = f"{SYS_ROOT}/sys/bus/pci/devices/0000:00:06.0"
    version = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build\n"
    files = {
        f"{device}/vendor": "0x10de\n",
        f"{device}/device": "0x2330\n",
        f"{device}/class": "0x030200\n",
        f"{SYS_ROOT}/sys/module/nvidia/version": "580.159.04\n",
        f"{SYS_ROOT}/proc/driver/nvidia/version": version,
        f"{SYS_ROOT}/nvidia-smi.xml": recorded.partition("\n")[2],
    }
    for path, text in files.items():
        host.write(path, text)
    host.write("/usr/local/bin/nvidia-smi", SMI, mode=0o755)
