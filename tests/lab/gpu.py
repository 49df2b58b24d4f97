"""The GPU double: a host that seems to have NVIDIA GPUs and their driver.

PCI entries, the module, device nodes and an nvidia-smi with recorded answers of an H100, all in
the places where the real ones are. No CUDA program will ever run on it; what needs one is
checked on a real GPU. Containers see it through the doubles of NVIDIA's toolkit.
"""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass
from pathlib import Path

from tests.lab.engine import docker
from tests.lab.host import Host

FILES = Path(__file__).parent / "doubles" / "gpu"
DATA = "/usr/lib/remotedl-lab-gpu"
PCI_DEVICE = {"vendor": "0x10de", "device": "0x2330", "class": "0x030200"}
MODULE_VERSION = "580.159.04"
KERNEL_MODULE = (
    f"NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {MODULE_VERSION}  Release Build\n"
    "GCC version:  gcc version 15.3.0 (GCC)\n"
)
UNIT = f"""\
[Unit]
Description=The lab's GPU double
DefaultDependencies=no
Before=docker.service sysinit.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={DATA}/show.sh
[Install]
WantedBy=sysinit.target
"""


@dataclass(frozen=True)
class Gpu:
    """One GPU of the double; memory in MiB, utilisation in per cent."""

    index: int
    used: int = 0
    utilisation: int = 0
    pids: tuple[int, ...] = ()

    @property
    def uuid(self) -> str:
        return f"GPU-00000000-0000-0000-0000-{self.index:012d}"

    @property
    def bus(self) -> str:
        return f"00000000:00:{self.index + 6:02X}.0"

    def row(self) -> str:
        pids = " ".join(map(str, self.pids))
        return f"{self.index}|{self.uuid}|{self.bus}|{self.used}|{self.utilisation}|{pids}\n"


class GpuDouble:
    """The double on one host; `install` puts it there, the rest changes what it answers."""

    def __init__(self, host: Host) -> None:
        self.host = host

    def install(self, *gpus: Gpu, driver: bool = True) -> None:
        """`driver=False`: only the PCI entries, as on a box where nobody installed one."""
        gpus = gpus or (Gpu(0),)
        files = _pci_entries(gpus)
        files[f"{DATA}/gpus"] = "".join(gpu.row() for gpu in gpus)
        files[f"{DATA}/show.sh"] = (FILES / "show.sh").read_text()
        files["/etc/systemd/system/lab-gpu.service"] = UNIT
        for folder in ("sys/module", "proc/driver"):
            files[f"{DATA}/root/{folder}/README"] = "of the GPU double\n"
        if driver:
            for name in ("card", "gpu.xml"):
                files[f"{DATA}/{name}"] = (FILES / name).read_text()
            files["/usr/bin/nvidia-smi"] = (FILES / "nvidia-smi").read_text()
            files[f"{DATA}/root/sys/module/nvidia/version"] = f"{MODULE_VERSION}\n"
            files[f"{DATA}/root/proc/driver/nvidia/version"] = KERNEL_MODULE
        docker("cp", "-", f"{self.host.container}:/", stdin=_tar(files))
        self.host.exec(["systemctl", "daemon-reload"])
        self.host.exec(["systemctl", "enable", "--now", "lab-gpu.service"])

    def set_load(self, *gpus: Gpu) -> None:
        """What nvidia-smi says from now on about memory, utilisation and processes."""
        self.host.write(f"{DATA}/gpus", "".join(gpu.row() for gpu in gpus))

    def break_driver(self, answer: str) -> None:
        """nvidia-smi fails with this text (status 18) until `mend_driver`."""
        self.host.write(f"{DATA}/broken", answer + "\n")

    def mend_driver(self) -> None:
        self.host.exec(["rm", "-f", f"{DATA}/broken"])


def _pci_entries(gpus: tuple[Gpu, ...]) -> dict[str, str]:
    devices = f"{DATA}/root/sys/bus/pci/devices"
    return {
        f"{devices}/0000:00:{gpu.index + 6:02x}.0/{name}": f"{value}\n"
        for gpu in gpus
        for name, value in PCI_DEVICE.items()
    }


def _tar(files: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, text in files.items():
            info = tarfile.TarInfo(path.lstrip("/"))
            info.size = len(text.encode())
            info.mode = 0o755 if text.startswith("#!") else 0o644
            tar.addfile(info, io.BytesIO(text.encode()))
    return buffer.getvalue()
