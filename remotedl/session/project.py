"""The folder on the laptop that is worked on: its root, its id, its configuration.

The id is 16 random hex characters in `.remotedl/project.toml`: it names the container, the
folder on the host and the state on the laptop, so that a renamed folder stays the same project
and two folders of one name are two.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import tomllib
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from remotedl.config.files import write_private
from remotedl.config.load import FILE_NAME, find_config, load_config
from remotedl.config.models import Config
from remotedl.config.paths import state_dir, state_unusable
from remotedl.config.places import Places, places_of
from remotedl.errors import FolderUnusable, StateCorrupt

MARKER = Path(".remotedl") / "project.toml"
_ID = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class Project:
    """A project folder. `config_path` is None where no hosts.toml was found."""

    root: Path
    id: str
    config: Config
    config_path: Path | None
    copy_of: Path | None = None
    """The folder that this one was just found to be a copy of; it has a new id since."""

    @property
    def places(self) -> Places:
        """Which files of the laptop its hosts.toml may name."""
        return Places(self.root, self.config_path)

    @property
    def slug(self) -> str:
        """The folder's name, fit for container names and paths: [a-z0-9-], at most 40."""
        return slug_of(self.root.name)

    @property
    def label(self) -> str:
        """What the host calls the project: unique there, and still readable."""
        return f"{self.slug}-{self.id[:6]}"

    def state_folder(self, host_name: str) -> Path:
        """Where the laptop keeps what concerns this project on this host (0700)."""
        folder = state_dir() / "projects" / self.id / _file_name(host_name)
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as exc:
            raise state_unusable(folder, exc) from exc
        return folder


def known_projects() -> frozenset[str]:
    """Ids of all projects that this laptop was ever up with."""
    folder = state_dir() / "projects"
    return frozenset(one.name for one in folder.iterdir()) if folder.is_dir() else frozenset()


def open_project(
    folder: Path,
    explicit_config: Path | None = None,
    check: Callable[[Config, bool], None] = lambda config, fresh: None,
    confirm: Callable[[str], bool] = lambda question: False,
) -> Project:
    """The project that `folder` belongs to; gives it an id when it has none.

    `check` sees the configuration, and whether there is no id yet, before anything is written.
    `confirm` is asked whether a whole home folder is meant, the first time.

    A copy of a project's folder (`cp -r`) becomes a project of its own: two folders with one id
    would undo each other's work. A folder that was moved stays what it is.

    The root is the nearest folder at or above with `.remotedl/` or a hosts.toml, else `folder`
    itself. A hosts.toml in the home folder is the user's own and makes home no project.
    Raises ConfigError, FolderUnusable, StateCorrupt.
    """
    root = project_root(folder, confirm)
    config_path = find_config(root, explicit_config)
    config = load_config(config_path) if config_path is not None else Config()
    places_of(root, config_path, config)
    check(config, not (root / MARKER).exists())
    project_id = _project_id(root)
    original = _original(root, project_id)
    if original is not None:
        project_id = _become_another(root)
    _remember(root, project_id)
    return Project(root, project_id, config, config_path, original)


def project_root(folder: Path, confirm: Callable[[str], bool] = lambda question: False) -> Path:
    """Where the project begins that `folder` lies in.

    `confirm` is asked about a home folder that is no project yet. Raises FolderUnusable.
    """
    folder = folder.resolve()
    root = next((f for f in (folder, *folder.parents) if _is_root(f)), folder)
    if root == Path(root.anchor):
        raise FolderUnusable(
            f"{root} is the whole disk, not a project folder", hint="cd into your project's folder"
        )
    if root == Path.home().resolve() and not (root / MARKER).exists():
        what = f"{root} is your home folder: all of it would be copied to the host"
        if not confirm(f"{what}. Make it a project all the same?"):
            hint = "mkdir my-project && cd my-project && remotedl up"
            raise FolderUnusable(what, hint=hint)
    return root


def slug_of(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:40].strip("-") or "project"


def _file_name(host_name: str) -> str:
    """One file name a host: names with other characters get their hash, so that no two share."""
    plain = re.sub(r"[^A-Za-z0-9._@-]", "_", host_name)
    if plain == host_name and not plain.startswith(".") and len(plain) <= 100:
        return plain
    return f"{plain.strip('.')[:80]}~{hashlib.sha256(host_name.encode()).hexdigest()[:8]}"


def _is_root(folder: Path) -> bool:
    if folder == Path.home().resolve():
        return False
    return (folder / MARKER).is_file() or (folder / FILE_NAME).is_file()


def _project_id(root: Path) -> str:
    path = root / MARKER
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return _new_id(path, _lost_id(root))
    except (OSError, UnicodeDecodeError) as exc:
        raise FolderUnusable(f"{path} cannot be read: {exc}") from exc
    try:
        found = tomllib.loads(text).get("id")
    except tomllib.TOMLDecodeError:
        found = None
    if not isinstance(found, str) or not _ID.fullmatch(found):
        raise StateCorrupt(
            f"{path} is damaged: it should hold the project's id",
            hint=f"restore {path} from a backup, or delete it to start as a new project",
        )
    return found


def _lost_id(root: Path) -> str | None:
    """The id of a project whose `.remotedl/` was removed, as the state folder knows it."""
    from remotedl.sync.opening import DATABASE  # seldom needed, and half of a start
    from remotedl.sync.proof import proves

    folder = state_dir() / "projects"
    for database in sorted(folder.glob(f"*/*/{DATABASE}")):
        project_id = database.parent.parent.name
        if _ID.fullmatch(project_id) and proves(root, database):
            return project_id
    return None


def _home_note(project_id: str) -> Path:
    """Where the laptop notes which folder has this id."""
    return state_dir() / "projects" / project_id / ".folder"


def _original(root: Path, project_id: str) -> Path | None:
    """The folder that `root` is a copy of; None where it is the one we know, or was moved."""
    try:
        known = Path(_home_note(project_id).read_text(encoding="utf-8"))
        if known == root or known.samefile(root):
            return None
        same = tomllib.loads((known / MARKER).read_text(encoding="utf-8")).get("id")
    except (OSError, ValueError):
        return None
    return known if same == project_id else None


def _become_another(root: Path) -> str:
    """A new id; the name that the sync gave the copied folder is the original's, and goes."""
    (root / MARKER.parent / "marker").unlink(missing_ok=True)
    return _new_id(root / MARKER)


def _remember(root: Path, project_id: str) -> None:
    note = _home_note(project_id)
    try:
        if note.read_text(encoding="utf-8") == str(root):
            return
    except (OSError, ValueError):
        pass
    try:
        write_private(note, os.fsencode(root))
    except OSError as exc:
        raise state_unusable(note, exc) from exc


def _new_id(path: Path, lost: str | None = None) -> str:
    new = lost or secrets.token_hex(8)
    text = f'# The name of this project for remotedl; keep it.\nid = "{new}"\n'
    try:
        write_private(path, text.encode())
    except OSError as exc:
        raise FolderUnusable(
            f"{path.parent.parent} cannot be written to: {exc.strerror}",
            hint=f"ls -ld '{path.parent.parent}'",
        ) from exc
    return new
