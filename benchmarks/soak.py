"""Two users, two real folders, a bad link: everything that can go wrong does, for as long as asked.

Both users create, edit, append, rename and delete, switch git branches and save like Jupyter,
while either side is killed and the link is cut or frozen at random. A third one types in Jupyter on
the host, in a file that an editor on the laptop rewrites. At the end the trees must be
equal, and every version that somebody wrote must be in a tree or in a trash, unless its own author
wrote over it or removed it. `python -m benchmarks.soak --minutes 10`; exit status 1 if not.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.soak_typist import FOLDER, HEAD, NAME, Editor, Jupyter, Typist, not_kept
from remotedl.config.models import SyncConfig
from remotedl.sync.engine import Sync
from remotedl.sync.lanes import Choice
from remotedl.sync.safety import HaltKind
from tests.lab.badlink import BadLink
from tests.lab.sshd import Sshd

BIG = 5 << 20
KEEP = 8
"""Files that nobody removes, so that no root is ever emptied."""
SETTLE_S = 60.0
MERGED_S = 3.0
"""Within which Jupyter has merged and saved what was put down."""


@dataclass
class Told:
    """What happened, for the report."""

    acts: Counter[str] = field(default_factory=Counter)
    versions: int = 0
    checked: int = 0
    conflicts: int = 0
    lost: list[str] = field(default_factory=list)
    unequal: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        return not (self.lost or self.unequal)


class User:
    """Somebody who works in one of the folders and remembers all that they wrote."""

    def __init__(self, name: str, root: Path, chance: random.Random, told: Told) -> None:
        self.name = name
        self.root = root
        self.chance = chance
        self.told = told
        self.standing: dict[bytes, str] = {}
        """Versions of theirs that they did not supersede themselves, and where they wrote them."""
        self.count = 0

    def act(self) -> None:
        acts = [
            (self.edit_in_place, 24), (self.save_by_rename, 16), (self.create, 20),
            (self.append, 8), (self.delete, 8), (self.rename, 8), (self.make_dir, 5),
            (self.remove_dir, 2), (self.rename_dir, 3), (self.change_mode, 4),
            (self.save_like_jupyter, 10), (self.make_link, 2), (self.write_big, 1),
        ]  # fmt: skip
        names, weights = zip(*acts, strict=True)
        work = self.chance.choices(names, weights)[0]
        try:
            work()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError, FileExistsError):
            return  # the sync was faster: what they meant to touch is no longer there
        except OSError as exc:
            if exc.errno not in (39, 40):  # not empty, a loop of links
                raise
            return
        self.told.acts[work.__name__] += 1

    # What they do

    def create(self) -> None:
        self._write(self._somewhere() / f"{self.name}-{self.chance.randrange(40)}.txt")

    def edit_in_place(self) -> None:
        self._write(self._some_file())

    def save_by_rename(self) -> None:
        path = self._some_file()
        temporary = path.with_name(f".~{path.name}.tmp")
        data = self._version()
        temporary.write_bytes(data)
        self._supersede(path)
        temporary.replace(path)
        self._stands(data, path)

    def save_like_jupyter(self) -> None:
        path = self._some_file()
        data = self._version()
        self._supersede(path)
        with path.open("r+b") as file:
            file.truncate(0)
            file.flush()
            if self.chance.random() < 0.3:
                time.sleep(0.02)
            file.write(data)
        self._stands(data, path)

    def append(self) -> None:
        path = self._some_file()
        before = path.read_bytes()
        line = f"{self.name} appends {self.count}\n".encode()
        self.count += 1
        with path.open("ab") as file:
            file.write(line)
        after = path.read_bytes()
        if after == before + line:
            self._dropped(before)
            self._stands(after, path)

    def delete(self) -> None:
        path = self._some_file()
        if path.name.startswith("keep"):
            return
        self._supersede(path)
        path.unlink()

    def rename(self) -> None:
        path = self._some_file()
        if path.name.startswith("keep"):
            return
        target = self._somewhere() / f"{self.name}-{self.chance.randrange(40)}.txt"
        if target != path and not target.exists():
            os.link(path, target, follow_symlinks=False)
            path.unlink()

    def make_dir(self) -> None:
        (self._somewhere() / f"dir{self.chance.randrange(6)}").mkdir(exist_ok=True)

    def remove_dir(self) -> None:
        folder = self._somewhere()
        if folder == self.root or len(list(folder.rglob("*"))) > 12:
            return
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink():
                self._supersede(path)
        shutil.rmtree(folder, ignore_errors=True)

    def rename_dir(self) -> None:
        folder = self._somewhere()
        if folder != self.root:
            folder.rename(folder.with_name(f"dir{self.chance.randrange(6)}"))

    def change_mode(self) -> None:
        path = self._some_file()
        path.chmod(path.stat().st_mode ^ 0o111)

    def make_link(self) -> None:
        (self._somewhere() / f"link{self.chance.randrange(4)}").symlink_to("../keep0")

    def write_big(self) -> None:
        path = self._somewhere() / f"{self.name}-big{self.chance.randrange(2)}"
        self._supersede(path)
        data = self._version() + random.Random(self.count).randbytes(BIG)
        path.write_bytes(data)
        self._stands(data, path)

    # What they remember

    def _write(self, path: Path) -> None:
        data = self._version()
        self._supersede(path)
        path.write_bytes(data)
        self._stands(data, path)

    def _version(self) -> bytes:
        """Something that nobody ever wrote before."""
        self.count += 1
        line = f"{self.name} {self.count} {self.chance.getrandbits(64):x}\n".encode()
        return line * self.chance.choice((1, 1, 1, 10, 400, 4000))

    def _supersede(self, path: Path) -> None:
        """They are about to write over, or remove, what they see there."""
        if path.is_file() and not path.is_symlink():
            self._dropped(path.read_bytes())

    def _dropped(self, data: bytes) -> None:
        self.standing.pop(data, None)

    def _stands(self, data: bytes, path: Path) -> None:
        self.told.versions += 1
        self.standing[data] = str(path.relative_to(self.root))

    def _some_file(self) -> Path:
        files = [path for path in self._all() if path.is_file() and not path.is_symlink()]
        return self.chance.choice(files)

    def _somewhere(self) -> Path:
        folders = [self.root, *(p for p in self._all() if p.is_dir() and not p.is_symlink())]
        return self.chance.choice(folders)

    def _all(self) -> list[Path]:
        found = []
        for folder, dirs, files in os.walk(self.root):
            dirs[:] = [one for one in dirs if one not in (".remotedl", ".git", FOLDER)]
            found += [Path(folder, one) for one in (*dirs, *files) if not one.startswith(".~")]
            if len(Path(folder).relative_to(self.root).parts) >= 4:
                dirs.clear()
        return sorted(found)


class GitUser(User):
    """The laptop's user has a repository in the folder and switches branches."""

    def begin_repository(self) -> None:
        self._git("init", "-q", "-b", "one")
        for branch in ("one", "two"):
            if branch == "two":
                self._git("checkout", "-qb", "two")
            for number in range(12):
                path = (
                    self.root
                    / "repo"
                    / f"{number % 3}"
                    / f"{branch if number % 2 else 'both'}{number}"
                )
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(f"git {branch} {number}\n")
            self._git("add", "repo")
            self._git("commit", "-qm", branch)

    def switch_branch(self) -> None:
        """What the other user wrote into the repository stops it, as it stops anybody."""
        branch = self.chance.choice(("one", "two"))
        self._git("checkout", "-q", branch, check=False)
        self.told.acts["switch_branch"] += 1

    def _git(self, *argv: str, check: bool = True) -> None:
        name = ["-c", "user.name=soak", "-c", "user.email=soak@localhost"]
        subprocess.run(["git", *name, *argv], cwd=self.root, check=check, capture_output=True)


def soak(seconds: float, seed: int, base: Path) -> Told:
    """Run it all in `base`; what came of it."""
    chance = random.Random(seed)
    told = Told()
    sshd = Sshd(base / "sshd")
    sshd.start()
    link = BadLink((sshd.address, sshd.port))
    laptop, host, state = base / "laptop", sshd.home / "project", base / "state"
    laptop.mkdir()
    for number in range(KEEP):
        (laptop / f"keep{number}").write_text(f"kept {number}\n")
    users = (
        GitUser("laptop", laptop, chance, told),
        User("host", host, chance, told),
    )
    users[0].begin_repository()
    (laptop / FOLDER).mkdir()
    (laptop / NAME).write_text(f"{HEAD}\n")
    editor = Editor(laptop / NAME)
    world = World(base, sshd, link, laptop, state, chance, told)
    jupyter: Jupyter | None = None
    try:
        world.start_laptop()
        _until(lambda: (host / "keep0").exists() and (host / NAME).exists())
        jupyter = Jupyter(host, base)
        typist = Typist(jupyter.room(NAME), "word")
        typist.start()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            chance.choice(users).act()
            editor.maybe_save()
            if chance.random() < 0.01:
                users[0].switch_branch()
            if chance.random() < 0.02:
                world.break_something()
            time.sleep(chance.choice((0, 0, 0.002, 0.02, 0.05)))
        typist.end()
        world.end_laptop()
        link.resume()
        world.bring_together()
        time.sleep(MERGED_S)
        world.bring_together()
        _check(told, users, laptop, host)
        told.acts.update(type_words=len(typist.words), rewrite_what_is_typed=len(editor.lines))
        told.lost += not_kept((laptop / NAME, host / NAME), typist, editor)
    finally:
        if jupyter is not None:
            jupyter.close()
        world.close()
        link.close()
        sshd.kill()
    return told


class World:
    """The laptop's process, the host's, and the link between them: what can break."""

    def __init__(
        self,
        base: Path,
        sshd: Sshd,
        link: BadLink,
        laptop: Path,
        state: Path,
        chance: random.Random,
        told: Told,
    ) -> None:
        self.sshd = sshd
        self.link = link
        self.laptop = laptop
        self.state = state
        self.chance = chance
        self.told = told
        self.login = sshd.login.at(link.address, link.port)
        self.log = (base / "laptop.log").open("w")
        self.process: subprocess.Popen[bytes] | None = None

    def start_laptop(self) -> None:
        login = self.login
        argv = [
            sys.executable, "-m", "benchmarks.soak_laptop", login.address, str(login.port),
            login.user, str(login.key), str(login.known_hosts), str(self.laptop), str(self.state),
        ]  # fmt: skip
        self.process = subprocess.Popen(argv, stderr=self.log)

    def break_something(self) -> None:
        work = self.chance.choice(
            [self.kill_laptop, self.kill_agent, self.cut, self.freeze, self.kill_connections]
        )
        self.told.acts[work.__name__] += 1
        work()

    def kill_laptop(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.start_laptop()

    def kill_agent(self) -> None:
        for process in self.sshd.processes():
            try:
                if any("agent-" in part for part in process.cmdline()):
                    process.kill()
            except psutil.Error:
                pass

    def kill_connections(self) -> None:
        self.sshd.kill_connections()

    def cut(self) -> None:
        self.link.cut()
        time.sleep(self.chance.random() * 0.2)
        self.link.resume()

    def freeze(self) -> None:
        """Long enough to be taken for dead now and then; sometimes it goes on."""
        self.link.freeze(*self.chance.choice([("up",), ("down",), ("up", "down")]))
        time.sleep(self.chance.random() * 0.3)
        if self.chance.random() < 0.5:
            self.link.reset()
        self.link.resume()

    def end_laptop(self) -> None:
        assert self.process is not None
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def bring_together(self) -> None:
        """A last session: all conflicts are resolved, one way or another."""
        from benchmarks.sync_once import log_in

        connection = log_in(self.login)
        sync = Sync(
            self.laptop, connection, "~/project", SyncConfig(), state_dir=self.state, watch=False
        )
        try:
            sync.open()
            deadline = time.monotonic() + SETTLE_S
            sync.allow({HaltKind.MASS_DELETE})
            outcome = sync.cycle()
            while outcome.conflicts or outcome.pending or outcome.frozen:
                for conflict in outcome.conflicts:
                    self.told.conflicts += 1
                    sync.resolve(conflict.key, self.chance.choice(list(Choice)))
                if time.monotonic() > deadline:
                    self.told.unequal.append(f"no rest: {outcome}")
                    return
                sync.allow({HaltKind.MASS_DELETE})
                outcome = sync.cycle()
        finally:
            sync.close()
            connection.close()

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.log.close()


def _check(told: Told, users: tuple[User, ...], laptop: Path, host: Path) -> None:
    from tests.lab_tests.sync.folders import trash, tree

    here, there = tree(laptop), tree(host)
    for key in sorted(here.keys() | there.keys()):
        if key.split("/")[0] != ".git" and here.get(key) != there.get(key):
            told.unequal.append(f"{key}: {str(here.get(key))[:60]} / {str(there.get(key))[:60]}")
    found = trash(laptop) | trash(host) | _contents(laptop) | _contents(host)
    for user in users:
        for data, path in user.standing.items():
            told.checked += 1
            if data not in found:
                told.lost.append(f"{user.name}'s {path}: {data[:40]!r} ({len(data)} bytes)")


def _contents(root: Path) -> set[bytes]:
    return {
        path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and not path.is_symlink() and ".remotedl" not in path.parts
    }


def _until(check: object) -> None:
    deadline = time.monotonic() + 30
    while not check():  # type: ignore[operator]
        if time.monotonic() > deadline:
            raise TimeoutError("the first copy never came")
        time.sleep(0.02)


def run(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 30))
    parser.add_argument("--keep", action="store_true", help="leave the folders for a look")
    given = parser.parse_args(argv)
    place = "/dev/shm" if Path("/dev/shm").is_dir() else None
    base = Path(tempfile.mkdtemp(prefix="remotedl-soak-", dir=place))
    print(f"seed {given.seed}, in {base}", file=sys.stderr, flush=True)
    told = soak(given.minutes * 60, given.seed, base)
    for name, count in sorted(told.acts.items()):
        print(f"{count:7} {name.replace('_', ' ')}")
    print(f"{told.versions} versions written, {told.checked} to be accounted for")
    print(
        f"{told.conflicts} conflicts resolved, {len(told.lost)} lost, {len(told.unequal)} unequal"
    )
    for line in (*told.lost, *told.unequal):
        print(line)
    if told.is_good and not given.keep:
        shutil.rmtree(base)
    return 0 if told.is_good else 1


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
