"""Signed package repositories, laid out like Docker's and NVIDIA's, with doubles in them.

Docker's packages hold Debian's own engine of the release (a real engine under Docker's package
names); NVIDIA's hold scripts (tests/lab/doubles/nvidia) that do what the real ones would to
daemon.json, CDI specifications and containers, for the GPUs of the GPU double.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.lab.cache import cache_folder, content_hash, locked
from tests.lab.engine import docker
from tests.lab.images import RELEASES, Release, base_image
from tests.lab.run import LabRun
from tests.lab.services import serve_files

if TYPE_CHECKING:
    from remotedl.config.models import Mirrors

DOUBLES = Path(__file__).parent / "doubles"
NUMBERS: dict[Release, str] = {"bookworm": "12", "trixie": "13"}
TOOLKIT_VERSION = "1.20.1-1"
SIGNER = "remotedl lab <lab@example.invalid>"

# Package -> (what it depends on, the files of doubles/nvidia that it puts down).
TOOLKIT: dict[str, tuple[str, tuple[str, ...]]] = {
    "libnvidia-container1": ("libc6", ()),
    "libnvidia-container-tools": (
        f"libnvidia-container1 (= {TOOLKIT_VERSION})",
        ("usr/bin/nvidia-container-cli",),
    ),
    "nvidia-container-toolkit-base": (
        "python3-minimal",
        (
            "usr/bin/nvidia-ctk",
            "usr/bin/nvidia-cdi-hook",
            "usr/bin/nvidia-container-runtime",
            "etc/nvidia-container-runtime/config.toml",
        ),
    ),
    "nvidia-container-toolkit": (
        f"nvidia-container-toolkit-base (= {TOOLKIT_VERSION}), "
        f"libnvidia-container-tools (= {TOOLKIT_VERSION})",
        ("usr/bin/nvidia-container-runtime-hook",),
    ),
}


@dataclass(frozen=True)
class PackageMirrors:
    """Where the repositories are, as seen by lab hosts."""

    url: str

    @property
    def docker(self) -> str:
        """Laid out like https://download.docker.com/linux: …/debian/dists/…, …/debian/gpg."""
        return f"{self.url}/docker/linux"

    @property
    def nvidia(self) -> str:
        """Laid out like https://nvidia.github.io/libnvidia-container."""
        return f"{self.url}/libnvidia-container"

    def config(self) -> Mirrors:
        from remotedl.config.models import Mirrors  # here: pure tests load this file as well

        return Mirrors(docker=self.docker, nvidia=self.nvidia)


def start_mirrors(run: LabRun) -> PackageMirrors:
    """Serve both repositories to the run's hosts."""
    return PackageMirrors(serve_files(run, mirror_folder(), "mirrors"))


def mirror_folder() -> Path:
    """The folder of both repositories, made once per content (about 30 s)."""
    sources = [path for path in sorted(DOUBLES.rglob("*")) if path.is_file()]
    recipe = [path.read_bytes() for path in (*sources, Path(__file__))]
    key = content_hash(*recipe, *(base_image(release) for release in RELEASES))
    folder = cache_folder() / f"mirrors-{key}"
    with locked("mirrors"):
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=cache_folder(), prefix="mirrors-") as name:
                work = Path(name) / "mirrors"
                work.mkdir()
                _make(work)
                work.rename(folder)
    return folder


def _make(folder: Path) -> None:
    with _signer() as home:
        debian = folder / "docker/linux/debian"
        debs = folder / "debs"
        # trixie first: bookworm has no buildx of its own and takes trixie's, which runs there.
        for release in reversed(RELEASES):
            out = debs / release
            out.mkdir(parents=True)
            _repack(release, out, debs / "trixie")
            pool = debian / f"dists/{release}/pool/stable/amd64"
            pool.mkdir(parents=True)
            for deb in sorted(out.glob("*_*.deb")):
                if not deb.name.startswith("docker-buildx_"):
                    shutil.copy(deb, pool)
            _index(debian, debian / f"dists/{release}", pool, release)
            _sign(home, debian / f"dists/{release}/Release")
        _export_key(home, debian / "gpg")
        shutil.rmtree(debs)

        toolkit = folder / "libnvidia-container"
        flat = toolkit / "stable/deb/amd64"
        flat.mkdir(parents=True)
        for package in TOOLKIT:
            _pack_toolkit(package, flat)
        _index_flat(flat)
        _sign(home, flat / "Release")
        _export_key(home, toolkit / "gpgkey")
        (toolkit / "stable/deb/nvidia-container-toolkit.list").write_text(
            "deb https://nvidia.github.io/libnvidia-container/stable/deb/$(ARCH) /\n"
        )


def _repack(release: Release, out: Path, buildx: Path) -> None:
    extra = ["/buildx"] if release != "trixie" else []
    docker(
        "run", "--rm", "-v", f"{DOUBLES / 'repack.sh'}:/repack.sh:ro", "-v", f"{out}:/out",
        "-v", f"{buildx}:/buildx:ro", base_image(release),
        "sh", "/repack.sh", release, NUMBERS[release], "/out", *extra,
    )  # fmt: skip


def _pack_toolkit(package: str, out: Path) -> None:
    depends, files = TOOLKIT[package]
    with tempfile.TemporaryDirectory() as name:
        tree = Path(name)
        for path in files:
            target = tree / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(DOUBLES / "nvidia" / Path(path).name, target)
            target.chmod(0o755 if "/bin/" in path else 0o644)
        said = tree / f"usr/share/doc/{package}/DOUBLE"
        said.parent.mkdir(parents=True)
        said.write_text("A double made by the remotedl lab. Not from NVIDIA.\n")
        (tree / "DEBIAN").mkdir()
        (tree / "DEBIAN/control").write_text(
            f"Package: {package}\nVersion: {TOOLKIT_VERSION}\nArchitecture: amd64\n"
            f"Maintainer: {SIGNER}\nDepends: {depends}\nSection: utils\nPriority: optional\n"
            f"Description: double of NVIDIA's {package}, made by the remotedl lab\n"
        )
        tree.chmod(0o755)
        deb = out / f"{package}_{TOOLKIT_VERSION}_amd64.deb"
        _run(["dpkg-deb", "--root-owner-group", "-b", str(tree), str(deb)])


def _index(root: Path, dist: Path, pool: Path, codename: str) -> None:
    """dists/CODENAME/stable/binary-amd64/Packages and Release, as Docker's repository has them."""
    binary = dist / "stable/binary-amd64"
    binary.mkdir(parents=True)
    text = "".join(_stanza(deb, deb.relative_to(root)) for deb in sorted(pool.iterdir()))
    _write_packages(binary, text)
    fields = {"Suite": codename, "Codename": codename, "Components": "stable"}
    _write_release(dist, fields, sorted(binary.iterdir()))


def _index_flat(folder: Path) -> None:
    """A flat repository, as NVIDIA's is."""
    text = "".join(_stanza(deb, deb.relative_to(folder)) for deb in sorted(folder.glob("*.deb")))
    _write_packages(folder, text)
    _write_release(folder, {"Suite": "stable"}, sorted(folder.glob("Packages*")))


def _stanza(deb: Path, filename: Path) -> str:
    data = deb.read_bytes()
    control = _run(["dpkg-deb", "-f", str(deb)]).rstrip("\n")
    digest = hashlib.sha256(data).hexdigest()
    return f"{control}\nFilename: {filename}\nSize: {len(data)}\nSHA256: {digest}\n\n"


def _write_packages(folder: Path, text: str) -> None:
    (folder / "Packages").write_text(text)
    (folder / "Packages.gz").write_bytes(gzip.compress(text.encode(), mtime=0))


def _write_release(folder: Path, fields: dict[str, str], files: list[Path]) -> None:
    lines = ["Origin: remotedl lab (doubles)", "Label: remotedl lab"]
    lines += [f"{key}: {value}" for key, value in fields.items()]
    lines += ["Architectures: amd64", "Date: Thu, 01 Jan 2026 00:00:00 UTC", "SHA256:"]
    for path in files:
        data = path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        lines.append(f" {digest} {len(data)} {path.relative_to(folder)}")
    (folder / "Release").write_text("\n".join(lines) + "\n")


@contextmanager
def _signer() -> Iterator[Path]:
    """A throwaway GnuPG home with one key; nothing of it stays but the signatures."""
    with tempfile.TemporaryDirectory(prefix="lab-gpg-") as name:
        home = Path(name)
        argv = ["--batch", "--passphrase", "", "--quick-generate-key", SIGNER, "rsa3072", "sign"]
        _gpg(home, *argv, "never")
        try:
            yield home
        finally:
            subprocess.run(["gpgconf", "--kill", "all"], env={**os.environ, "GNUPGHOME": str(home)})


def _sign(home: Path, release: Path) -> None:
    _gpg(home, "--yes", "--clearsign", "-o", str(release.with_name("InRelease")), str(release))
    detached = str(release.with_name("Release.gpg"))
    _gpg(home, "--yes", "--armor", "--detach-sign", "-o", detached, str(release))


def _export_key(home: Path, path: Path) -> None:
    path.write_text(_gpg(home, "--armor", "--export"))


def _gpg(home: Path, *argv: str) -> str:
    return _run(["gpg", "--homedir", str(home), "--batch", "--quiet", *argv])


def _run(argv: list[str]) -> str:
    done = subprocess.run(argv, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{argv[0]} ended with {done.returncode}: {done.stderr}")
    return done.stdout
