"""Which files of the laptop a hosts.toml may name. Looks at paths; opens nothing but hosts.toml.

A project folder may come from elsewhere (cloned, unpacked), and its hosts.toml with it: `env_file =
"~/.aws/credentials"` would send that file to a host. So what it names lies in the project, after
links are resolved, or the user allows it in a file that no project brings along.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from remotedl.config.below import read_plain
from remotedl.config.load import FILE_NAME, line_of, load_config
from remotedl.config.models import Config, HostConfig
from remotedl.config.paths import config_dir, state_place
from remotedl.errors import ConfigError

KEY = "allow_files"
USERS_KEYS = (KEY, "allow_lan")
"""Keys that count in the user's own hosts.toml alone."""


@dataclass(frozen=True, slots=True)
class Places:
    """The files that the hosts.toml of one project may name."""

    root: Path
    """The project's folder."""
    config_path: Path | None = None
    """The hosts.toml that counts; None where there is none."""

    def find(self, key: str, name: str) -> Path:
        """The file that `key` names, relative to the project. Raises ConfigError."""
        path = self._path(name)
        if self._inside(path) or self._is_allowed(path):
            return path
        raise ConfigError(
            f"{self._where(key)} = {name!r} is {_real(path)}, outside of the project {self.root}",
            hint=f"if that is meant, put this into {own_file()}, above its tables: "
            f'{KEY} = ["{_real(path)}"]',
        )

    def read(self, key: str, name: str) -> bytes:
        """What stands in the file that `key` names. Raises ConfigError, FolderUnusable, OSError.

        The sync may put a link in its place after the look: below the project none is followed.
        """
        return read_plain(self.find(key, name), self.root)

    def host_with_files(self, name: str, host: HostConfig) -> HostConfig:
        """The host, its files looked at and no longer relative. Raises ConfigError."""
        found = {}
        for key in ("identity_file", "known_hosts"):
            given = getattr(host, key)
            if given is None or self._of_ssh(given):
                continue
            path = self.find(f"hosts.{name}.{key}", given)
            if not Path(given).expanduser().is_absolute():
                found[key] = str(path)
        return host.model_copy(update=found) if found else host

    def _path(self, name: str) -> Path:
        return Path(os.path.normpath(self.root / Path(name).expanduser()))

    def _inside(self, path: Path) -> bool:
        return _real(path).is_relative_to(self.root.resolve())

    def _is_allowed(self, path: Path) -> bool:
        """By the user: who wrote that path outside of the project, or allowed where it leads."""
        own = self.config_path is None or self._is_users(self.config_path)
        if own and not path.is_relative_to(self.root):
            return True
        real = _real(path)
        return any(real.is_relative_to(_real(self._path(one))) for one in self._allowed())

    def _allowed(self) -> tuple[str, ...]:
        own = own_file()
        return load_config(own).allow_files if own.is_file() else ()

    def _is_users(self, config_path: Path) -> bool:
        return config_path == own_file() or not config_path.resolve().is_relative_to(
            self.root.resolve()
        )

    def _of_ssh(self, name: str) -> bool:
        """What ssh itself would look for, and what remotedl keeps."""
        path = self._path(name)
        return any(path.is_relative_to(one) for one in (Path.home() / ".ssh", state_place()))

    def _where(self, key: str) -> str:
        if self.config_path is None:
            return key
        try:
            text = self.config_path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError):
            return f"{self.config_path}: {key}"
        return f"{self.config_path}:{line_of(text, tuple(key.split('.')))}: {key}"


def places_of(root: Path, config_path: Path | None, config: Config) -> Places:
    """Raises ConfigError where a project's own hosts.toml says what is allowed."""
    places = Places(root, config_path)
    if config_path is not None and not places._is_users(config_path):
        for key in USERS_KEYS:
            if getattr(config, key):
                raise ConfigError(
                    f"{places._where(key)} counts in your own file alone, not in that of a project",
                    hint=f"move it to {own_file()}",
                )
    return places


def allowed_lan() -> tuple[str, ...]:
    """What the user lets hosts reach through this laptop besides public addresses."""
    own = own_file()
    return load_config(own).allow_lan if own.is_file() else ()


def own_file() -> Path:
    """The hosts.toml of the user, which no project brings along."""
    return config_dir() / FILE_NAME


def _real(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError) as exc:
        raise ConfigError(f"{path} cannot be followed: {exc}", hint=f"ls -l '{path}'") from exc
