"""What tools say when something is wrong, and what that means. Pure: text in, symptoms out.

A table, read top to bottom; a text may show several symptoms. The sentences are those of the
tools, as recorded in tests/unit/provision/symptoms.json; what they mean comes from the vendors'
documentation and source (Docker: daemon/errors.go, devices_nvidia_linux.go, cdi.go; NVIDIA
Container Toolkit: troubleshooting guide; Ubuntu: server documentation).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

HOST = "{host}"
"""Stands in `mend` for the host's name."""


@dataclass(frozen=True, slots=True)
class Symptom:
    """One trouble. `mend` is the command to type, `{host}` in it the host's name."""

    name: str
    pattern: str
    """A regular expression, case ignored, that is found in what the tool says."""
    meaning: str
    cause: str
    mend: str


SYMPTOMS: tuple[Symptom, ...] = (
    # ---- Docker and the GPU
    Symptom(
        "cdi-unknown-to-engine",
        r"could not select device driver \"?\\?\"?cdi",
        "Docker does not know CDI devices",
        "CDI is switched off in daemon.json, or this Docker is older than 25",
        "remotedl provision {host}",
    ),
    Symptom(
        "no-gpu-driver-in-engine",
        r"could not select device driver .*capabilities: \[\[.*gpu",
        "Docker knows no way to a GPU",
        "the Container Toolkit is missing, Docker was not restarted after it came, or the client "
        "talks to another daemon (snap, rootless, a docker context)",
        "remotedl provision {host}",
    ),
    Symptom(
        "cdi-injection-failed",
        r"CDI device injection failed|unresolvable CDI devices",
        "the CDI specification does not fit the GPUs of this host",
        "it is missing or stale: the driver, the GPUs or their MIG partitions changed since",
        "remotedl doctor {host} --fix",
    ),
    Symptom(
        "no-cgroup-devices",
        r"nvidia-container-cli: .*(cgroup.*not found|failed to get device cgroup)"
        r"|device cgroup.*not found|cgroup subsystem devices not found",
        "the Container Toolkit finds no devices cgroup",
        "a toolkit before 1.8 knows no cgroup v2; newer ones need the devices controller of v1",
        "ssh {host} 'nvidia-ctk --version; mount | grep cgroup'",
    ),
    Symptom(
        "nvml-missing",
        r"libnvidia-ml\.so(\.1)?: (cannot open shared object file|file not found|no such file)"
        r"|libnvidia-ml\.so\.1.*not found",
        "the driver's library (libnvidia-ml.so.1) is not there",
        "the driver is not installed, or only its module is, or the container was not given it",
        "remotedl doctor {host}",
    ),
    Symptom(
        "container-cli-missing",
        r"couldn't find binary nvidia-container-cli|nvidia-container-cli: .*not found",
        "only a part of the Container Toolkit is there",
        "the base package alone serves CDI, and this Docker is too old for CDI",
        "remotedl provision {host}",
    ),
    Symptom(
        "runtime-unknown",
        r"unknown or invalid runtime name: nvidia|Unknown runtime specified nvidia",
        "Docker does not know the nvidia runtime",
        "daemon.json does not name it, or Docker was not restarted since",
        "remotedl provision {host}",
    ),
    # ---- the driver
    Symptom(
        "driver-mismatch",
        r"Driver/library version mismatch|API mismatch: the client has the version",
        "the driver's files are of another version than the module in the kernel",
        "the driver was upgraded (usually by unattended-upgrades) and the host not rebooted",
        "remotedl provision {host} --reboot",
    ),
    Symptom(
        "nvml-lost",
        r"Failed to initialize NVML: Unknown Error",
        "a container that had the GPU has lost it",
        "a systemctl daemon-reload on the host took its devices away (systemd's cgroups, no CDI)",
        "remotedl down {host}, then: remotedl up {host}",
    ),
    Symptom(
        "nvml-permissions",
        r"Failed to initialize NVML: Insufficient Permissions",
        "SELinux keeps the container from the GPU",
        "the container's label may not use NVIDIA's devices",
        "ssh {host} sudo setsebool -P container_use_devices on",
    ),
    Symptom(
        "driver-not-loaded",
        r"nvml error: driver not loaded|couldn't communicate with the NVIDIA driver|"
        r"Failed to initialize NVML: Driver Not Loaded",
        "NVIDIA's module is not in the kernel",
        "no driver is installed, it was built for another kernel, or Secure Boot refused it",
        "remotedl provision {host}",
    ),
    Symptom(
        "module-rejected",
        r"Key was rejected by service|module verification failed|Required key not available",
        "Secure Boot refuses the driver's module",
        "it was built on the host and its key is not enrolled",
        "ssh {host} sudo mokutil --import /var/lib/dkms/mok.pub",
    ),
    Symptom(
        "gpu-off-the-bus",
        r"GPU is lost|fallen off the bus|Xid .*: 79\b|Unable to determine the device handle",
        "a GPU no longer answers on the PCI bus",
        "power, heat, a loose card or a crash of its firmware (Xid 79)",
        "remotedl provision {host} --reboot",
    ),
    Symptom(
        "no-devices",
        r"No devices were found",
        "the driver is loaded and sees no GPU",
        "nouveau holds the GPU, the GPU is too old for this driver, or it crashed",
        "ssh {host} 'sudo dmesg | grep -E \"NVRM|nouveau\"'",
    ),
    Symptom(
        "image-too-new",
        r"requirement error: unsatisfied condition: cuda|"
        r"CUDA driver version is insufficient for CUDA runtime version|"
        r"The NVIDIA driver on your system is too old",
        "the image needs a newer CUDA than the driver speaks",
        "the image is newer than the driver",
        "remotedl image list {host}",
    ),
    Symptom(
        "tensorflow-without-cudnn",
        r"Cannot dlopen some GPU libraries",
        "TensorFlow does not see the GPU",
        "tensorflow images from 2.18 on lack cuDNN 9",
        "remotedl run {host} -- pip install 'tensorflow[and-cuda]'",
    ),
    Symptom(
        "gpu-memory",
        r"CUDA out of memory|CUDA error: out of memory|CUDA_ERROR_OUT_OF_MEMORY",
        "the GPU's memory is full",
        "the model is too big for it, or somebody else is on the same GPU",
        "remotedl gpus {host}",
    ),
    # ---- Docker itself
    Symptom(
        "docker-permission",
        r"permission denied while trying to connect to the docker (API|daemon socket)",
        "this user may not speak with Docker",
        "the user is not in the group docker, or joined it after this login",
        "remotedl provision {host}",
    ),
    Symptom(
        "docker-config-stolen",
        r"Error loading config file: .*\.docker/config\.json.*permission denied",
        "~/.docker belongs to root",
        "docker was run with sudo before the user ran it",
        "remotedl doctor {host} --fix",
    ),
    Symptom(
        "docker-down",
        r"Cannot connect to the Docker daemon|failed to connect to the docker API",
        "Docker does not run",
        "it was stopped, or it does not start (a broken daemon.json, a full disk)",
        "ssh {host} sudo journalctl -u docker -n 30",
    ),
    Symptom(
        "docker-client-old",
        r"client version \S+ is too old\. Minimum supported API version",
        "client and daemon of Docker are too far apart",
        "Docker 29.0 to 29.2 refuses older clients",
        "ssh {host} sudo apt-get install --only-upgrade docker-ce-cli",
    ),
    Symptom(
        "settings-twice",
        r"directives are specified both as a flag and in the configuration file",
        "Docker is given one setting twice, in daemon.json and on dockerd's command line",
        "a unit of systemd, or a drop-in of one, names it as well (-H, --data-root, --mtu)",
        "ssh {host} systemctl cat docker.service",
    ),
    Symptom(
        "settings-unknown",
        r"directives don't match any configuration option",
        "daemon.json holds a setting that this Docker does not know",
        "a word is misspelt, or it came with a newer Docker",
        "ssh -t {host} sudoedit /etc/docker/daemon.json",
    ),
    Symptom(
        "settings-broken",
        r"unable to configure the Docker daemon with file|invalid character .* (looking for|after)",
        "Docker's daemon.json cannot be read",
        "it is no valid JSON",
        "ssh -t {host} sudoedit /etc/docker/daemon.json",
    ),
    Symptom(
        "port-taken",
        r"port is already allocated|failed to bind host port|address already in use",
        "a port is in use on the host",
        "another container or program has it",
        "ssh {host} ss -ltnp",
    ),
    Symptom(
        "pull-limit",
        r"toomanyrequests|pull rate limit",
        "the registry lets this address pull no more for now",
        "Docker Hub limits pulls without a login",
        "ssh {host} docker login",
    ),
    Symptom(
        "wrong-architecture",
        r"exec format error|no matching manifest for linux/",
        "the image is for another kind of processor",
        "an amd64 image on arm64, or the other way round",
        "remotedl image list {host}",
    ),
    # ---- memory and disks
    Symptom(
        "shared-memory",
        r"DataLoader worker .*Bus error|insufficient shared memory|out of shared memory",
        "the container's /dev/shm is too small",
        "workers of a DataLoader pass batches through it, and Docker gives 64 MiB",
        'set shm_size = "16g" under [project] in hosts.toml, then: remotedl up {host}',
    ),
    Symptom(
        "disk-full",
        r"no space left on device|don't have enough free space",
        "a disk of the host is full",
        "images and build layers take most of it",
        "ssh -t {host} 'df -h; sudo docker system df'",
    ),
    Symptom(
        "out-of-memory",
        r"Out of memory: Killed process|oom-kill|OOMKilled",
        "the kernel ended a program for want of memory",
        "the host's memory, or the container's limit, was used up",
        "remotedl status",
    ),
    # ---- packages and the network
    Symptom(
        "packages-locked",
        r"Could not get lock /var/(lib|cache)/|is another process using it\?",
        "another program installs packages",
        "usually the first boot, or unattended-upgrades",
        "wait, then: remotedl provision {host}",
    ),
    Symptom(
        "packages-unfinished",
        r"dpkg was interrupted",
        "an installation was killed half-way",
        "power, a lost connection or a full disk",
        "remotedl provision {host}",
    ),
    Symptom(
        "old-cuda-key",
        r"NO_PUBKEY (A4B469963BF863CC|F60F4B3D7FA2AF80)",
        "NVIDIA's repository is signed with a newer key than the host knows",
        "the key was changed in 2022",
        "ssh {host} sudo apt-key del 7fa2af80, then: remotedl provision {host}",
    ),
    Symptom(
        "repository-twice",
        r"Conflicting values set for option Signed-By",
        "one repository stands in two files with different keys",
        "it was added by hand and by a script",
        "ssh {host} grep -rl -e nvidia.github.io -e download.docker.com /etc/apt/sources.list.d",
    ),
    Symptom(
        "clock-wrong",
        r"is not valid yet|certificate is not yet valid|certificate has expired",
        "a signature or certificate is not of this time",
        "the host's clock is wrong",
        "ssh {host} sudo timedatectl set-ntp true",
    ),
    Symptom(
        "names-unresolved",
        r"Temporary failure (resolving|in name resolution)|Could not resolve host|no such host",
        "the host resolves no names",
        "it has no way to the internet, or no DNS",
        "remotedl provision {host} --via-laptop",
    ),
    Symptom(
        "certificate-unknown",
        r"certificate signed by unknown authority|unable to get local issuer certificate",
        "a certificate is signed by somebody whom the host does not know",
        "a proxy opens TLS, or ca-certificates is missing",
        "put the proxy's authority into /usr/local/share/ca-certificates of the host, "
        "then: sudo update-ca-certificates",
    ),
    Symptom(
        "group-without-name",
        r"groups: cannot find name for group ID",
        "nothing: a group of the host has no name in the container",
        "the GPU's devices belong to groups of the host",
        "",
    ),
)


def recognise(text: str) -> tuple[Symptom, ...]:
    """The symptoms that `text` shows, in the table's order; each once."""
    return tuple(s for s in SYMPTOMS if re.search(s.pattern, text, re.IGNORECASE))


def explain(text: str, host: str) -> str:
    """The first symptom in one line, with its mending command; "" for what nobody knows."""
    found = recognise(text)
    if not found:
        return ""
    mend = found[0].mend.format(host=host)
    return f"{found[0].meaning} ({found[0].cause})" + (f"; next: {mend}" if mend else "")
