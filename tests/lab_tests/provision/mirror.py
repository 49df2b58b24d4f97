"""Signed package repositories laid out like Docker's and NVIDIA's, served to the lab's hosts.

The official ones are out of reach. `docker-ce` and its companions here are Debian's own packages
under other names, so that a real engine comes; NVIDIA's packages are doubles that put down
programs of the same names. Each says in its description that it is a double. What they cannot
show is that a GPU works.
"""

from __future__ import annotations

import gzip
import hashlib
import http.server
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.lab.cache import cache_folder
from tests.lab.engine import docker
from tests.lab.images import Release, host_image

NCT = "1.20.1-1"
RENAMED = {
    "docker.io": "docker-ce",
    "docker-cli": "docker-ce-cli",
    "docker-buildx": "docker-buildx-plugin",
}
DROPPED = ("Conflicts:", "Breaks:", "Replaces:", "Provides:", "Recommends:", "Suggests:",
           "Enhances:", "Description:", "Built-Using:", "Static-Built-Using:")  # fmt: skip
FETCH = "apt-get -q update && cd /out && apt-get -q download {names}"
NVIDIA_CTK = """\
#!/bin/sh
# a double of nvidia-ctk
case "$*" in
--version) echo "NVIDIA Container Toolkit CLI version 1.20.1" ;;
"cdi list") [ -e /etc/cdi/nvidia.yaml ] && echo "nvidia.com/gpu=all" ;;
"cdi generate --output="*)
    mkdir -p /etc/cdi
    cat > "${3#--output=}" <<'END'
cdiVersion: "0.5.0"
kind: nvidia.com/gpu
devices:
- name: all
  containerEdits:
    env:
    - GPU_DOUBLE=all
END
    ;;
*) echo "the double of nvidia-ctk knows no: $*" >&2; exit 2 ;;
esac
"""
RUNTIME = '#!/bin/sh\n# a double of nvidia-container-runtime\nexec runc "$@"\n'
NOTHING = "#!/bin/sh\n# a double that does nothing\n"


class Mirror:
    """Both repositories below one URL."""

    def __init__(self, folder: Path, release: Release) -> None:
        self.folder = folder
        self.release = release
        self._home = folder / "gnupg"
        self._home.mkdir(mode=0o700, parents=True)
        self.docker = ""
        self.nvidia = ""

    def build(self) -> None:
        """The packages, their indexes, the signatures and the public keys."""
        key = "lab mirror (double) <lab@example.invalid>"
        self._gpg("--quick-generate-key", key, "ed25519", "sign", "never")
        public = self._gpg("--armor", "--export")
        docker = self.folder / "docker" / "debian"
        pool = docker / "dists" / self.release / "stable" / "binary-amd64"
        pool.mkdir(parents=True)
        (docker / "gpg").write_bytes(public)
        engine = debian_packages(self.release)
        packages = [self._renamed(docker, engine[old], old, new) for old, new in RENAMED.items()]
        packages.append(self._deb(docker, "containerd.io", "5:99", "containerd", {}))
        self._index(docker, pool, packages, docker / "dists" / self.release)
        nvidia = self.folder / "nvidia"
        flat = nvidia / "stable" / "deb" / "amd64"
        flat.mkdir(parents=True)
        (nvidia / "gpgkey").write_bytes(public)
        toolkit = [self._deb(flat, name, NCT, *rest) for name, *rest in _toolkit()]
        self._index(flat, flat, toolkit, flat)

    def _gpg(self, *argv: str) -> bytes:
        options = ["--homedir", str(self._home), "--batch", "--yes", "--passphrase", ""]
        options += ["--pinentry-mode", "loopback", "--quiet"]
        return subprocess.run(["gpg", *options, *argv], check=True, capture_output=True).stdout

    def _deb(
        self, folder: Path, name: str, version: str, needs: str, files: dict[str, str]
    ) -> Path:
        tree = self.folder / "build" / name
        (tree / "DEBIAN").mkdir(parents=True)
        fields = [
            f"Package: {name}",
            f"Version: {version}",
            "Architecture: amd64",
            "Maintainer: lab <lab@example.invalid>",
            *([f"Depends: {needs}"] if needs else []),
            "Description: a double, made by the lab of remotedl",
        ]
        (tree / "DEBIAN" / "control").write_text("\n".join(fields) + "\n")
        for path, content in files.items():
            target = tree / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(content)
            target.chmod(0o755)
        made = folder / f"{name}.deb"
        argv = ["dpkg-deb", "--root-owner-group", "-Zgzip", "--build", str(tree), str(made)]
        subprocess.run(argv, check=True, capture_output=True)
        return made

    def _renamed(self, folder: Path, deb: Path, old: str, new: str) -> Path:
        """One of Debian's packages under the name that Docker gives it."""
        tree = self.folder / "build" / new
        tree.parent.mkdir(exist_ok=True)
        subprocess.run(["dpkg-deb", "-R", str(deb), str(tree)], check=True)
        control = tree / "DEBIAN" / "control"
        text = re.sub(r"\n[ \t]+", " ", control.read_text())
        kept = [line for line in text.splitlines() if not line.startswith(DROPPED)]
        lines = [
            line.replace("docker-cli", "docker-ce-cli") if line.startswith("Depends:") else line
            for line in kept
        ]
        lines = [line for line in lines if not line.startswith(("Package:", "Version:"))]
        lines += [f"Package: {new}", "Version: 5:99"]
        lines += [f"Description: a double, made by the lab of remotedl from {old}"]
        control.write_text("\n".join(lines) + "\n")
        made = folder / f"{new}.deb"
        argv = ["dpkg-deb", "-Zgzip", "-z1", "--build", str(tree), str(made)]
        subprocess.run(argv, check=True, capture_output=True)
        return made

    def _index(self, root: Path, folder: Path, packages: list[Path], top: Path) -> None:
        """Packages beside them, and a signed Release in `top`."""
        entries = list[str]()
        for deb in packages:
            argv = ["dpkg-deb", "--field", str(deb)]
            fields = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
            data = deb.read_bytes()
            name = deb.relative_to(root)
            entries.append(
                f"{fields}Filename: {name}\nSize: {len(data)}\n"
                f"SHA256: {hashlib.sha256(data).hexdigest()}\n"
            )
        index = "\n".join(entries).encode()
        (folder / "Packages").write_bytes(index)
        (folder / "Packages.gz").write_bytes(gzip.compress(index))
        lines = [f"Suite: {self.release}", f"Codename: {self.release}", "Architectures: amd64"]
        lines += ["Components: stable", "Date: Sat, 01 Nov 2025 00:00:00 UTC", "SHA256:"]
        for name in ("Packages", "Packages.gz"):
            data = (folder / name).read_bytes()
            path = (folder / name).relative_to(top)
            lines.append(f" {hashlib.sha256(data).hexdigest()} {len(data)} {path}")
        release = top / "Release"
        release.write_text("\n".join(lines) + "\n")
        self._gpg("--clearsign", "--output", str(top / "InRelease"), str(release))


def debian_packages(release: Release) -> dict[str, Path]:
    """Debian's packages of Docker, fetched once and kept in the lab's cache."""
    folder = cache_folder() / f"docker-packages-{release}"
    if not folder.exists():
        fetching = folder.with_name(f"{folder.name}.{os.getpid()}")
        fetching.mkdir(parents=True)
        command = FETCH.format(names=" ".join(RENAMED))
        argv = ["run", "--rm", "-v", f"{fetching}:/out", host_image(release)]
        docker(*argv, "sh", "-c", command)
        try:
            fetching.rename(folder)
        except OSError:
            shutil.rmtree(fetching)  # a run beside this one was faster
    return {path.name.partition("_")[0]: path for path in folder.glob("*.deb")}


def _toolkit() -> list[tuple[str, str, dict[str, str]]]:
    exact = f"(= {NCT})"
    return [
        (
            "nvidia-container-toolkit-base",
            "",
            {
                "usr/bin/nvidia-ctk": NVIDIA_CTK,
                "usr/bin/nvidia-cdi-hook": NOTHING,
                "usr/bin/nvidia-container-runtime": RUNTIME,
            },
        ),
        (
            "nvidia-container-toolkit",
            f"nvidia-container-toolkit-base {exact}, libnvidia-container-tools {exact}",
            {"usr/bin/nvidia-container-runtime-hook": NOTHING},
        ),
        (
            "libnvidia-container-tools",
            f"libnvidia-container1 {exact}",
            {"usr/bin/nvidia-container-cli": NOTHING},
        ),
        ("libnvidia-container1", "", {"usr/share/doc/libnvidia-container1/README": "a double\n"}),
    ]


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serve_mirror(folder: Path, address: str, release: Release) -> Iterator[Mirror]:
    """Build both repositories in `folder` and serve them on `address` while the block runs."""
    mirror = Mirror(folder, release)
    mirror.build()
    handler = partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer((address, 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        base = f"http://{address}:{server.server_address[1]}"
        mirror.docker, mirror.nvidia = f"{base}/docker", f"{base}/nvidia"
        try:
            yield mirror
        finally:
            server.shutdown()
            thread.join()
