"""The README's first command, as a newcomer types it: a fresh clone, an empty HOME."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
LIMIT_S = 600
SHOWN = ("http://127.0.0.1:", "lab?token=", "all of it works")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user may enter; pytest's own are root's alone."""
    made = Path(tempfile.mkdtemp(prefix="remotedl-readme-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def clone(folder: Path) -> Path:
    """What a `git clone` gives: nothing that is not committed."""
    target = folder / "remotedl"
    subprocess.run(["git", "clone", "-q", "--no-hardlinks", ROOT, target], check=True)
    return target


@pytest.fixture
def ordinary_user(folder: Path) -> Iterator[pwd.struct_passwd]:
    """A user of this machine without any right, for as long as the test runs."""
    name = f"rdl{os.getpid()}"
    home = folder / "home"
    # A number that nobody has: containers of other tests run as 1000 and the like.
    uid = str(50_000 + os.getpid() % 10_000)
    subprocess.run(["useradd", "--create-home", "--home-dir", home, "-u", uid, name], check=True)
    yield pwd.getpwnam(name)
    subprocess.run(["pkill", "-u", name], check=False)
    subprocess.run(["userdel", "--force", name], check=False, capture_output=True)


def make_demo(clone: Path, home: Path, user: pwd.struct_passwd | None) -> str:
    """`make demo` without a terminal: it shows that everything works, and ends."""
    kept = {name: value for name, value in os.environ.items() if "PIP" in name or "CERT" in name}
    env = {"HOME": str(home), "PATH": os.environ["PATH"], "LANG": "C.UTF-8", **kept}
    done = subprocess.run(
        ["make", "demo"],
        cwd=clone,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT_S,
        user=user.pw_uid if user else None,
        group=user.pw_gid if user else None,
        extra_groups=[] if user else None,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(LIMIT_S)
def test_demo_in_a_fresh_clone_with_an_empty_home(clone: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    said = make_demo(clone, home, None)
    assert all(part in said for part in SHOWN)


@pytest.mark.lab
@pytest.mark.slow
@pytest.mark.timeout(LIMIT_S)
def test_demo_as_an_ordinary_user(clone: Path, ordinary_user: pwd.struct_passwd) -> None:
    for path in (clone, *clone.rglob("*")):
        shutil.chown(path, ordinary_user.pw_uid, ordinary_user.pw_gid)
    said = make_demo(clone, Path(ordinary_user.pw_dir), ordinary_user)
    assert all(part in said for part in SHOWN)
    listed = subprocess.run(
        ["ps", "-u", ordinary_user.pw_name, "-o", "stat=,args="],
        capture_output=True,
        text=True,
        check=False,
    )
    # A zombie has ended; whoever is process 1 here may take its time to notice.
    left = [line for line in listed.stdout.splitlines() if not line.startswith("Z")]
    assert left == [], "the demo left processes behind"
