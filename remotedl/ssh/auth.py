"""Logging in: agent, key files, then what a person can type, in the order that OpenSSH takes.

Stands where paramiko takes an AuthStrategy. Secrets are asked for by the Prompt, handed to paramiko
and dropped. It remembers what was tried, so that a refusal can say so.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paramiko
from paramiko.ssh_exception import (
    AuthenticationException,
    BadAuthenticationType,
    PasswordRequiredException,
    SSHException,
)

from remotedl.errors import AuthFailed
from remotedl.ssh import key_file
from remotedl.ssh.prompt import Prompt
from remotedl.ssh.route import Hop

TRIES = 3
PERSON_TIMEOUT_S = 600.0
PASSPHRASE_NEEDED = (PasswordRequiredException, TypeError)


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A key that may be tried."""

    name: str
    file: Path | None = None
    agent_key: Any = None


class Login:
    """One login to one hop. `authenticate` raises AuthFailed."""

    def __init__(self, hop: Hop, prompt: Prompt) -> None:
        self.secret_typed = False
        """Whether a person had to type something."""
        self.key_file: Path | None = None
        """The key file that opened the door, where it was one."""
        self._hop = hop
        self._prompt = prompt
        self._tried: list[str] = []
        self._offered: list[str] = []

    def authenticate(self, transport: Any) -> None:
        transport.auth_timeout = PERSON_TIMEOUT_S
        try:
            left = self._ask_methods(transport)
            while left:
                left = self._try_methods(transport, left)
        except AuthFailed:
            raise
        except SSHException as exc:
            raise self._refused(f" ({exc})" if str(exc) else "") from exc

    def _ask_methods(self, transport: Any) -> list[str]:
        """What the server offers; nothing, when it wants no proof at all."""
        try:
            transport.auth_none(self._hop.user)
        except BadAuthenticationType as exc:
            return list(exc.allowed_types)
        return []

    def _try_methods(self, transport: Any, offered: list[str]) -> list[str]:
        """Try what we have of `offered`; what is still wanted afterwards ([]: we are in)."""
        self._offered = offered
        ways: dict[str, Callable[[Any], list[str] | None]] = {
            "publickey": self._try_keys,
            "keyboard-interactive": self._try_questions,
            "password": self._try_passwords,
        }
        for method, way in ways.items():
            if method in offered:
                left = way(transport)
                if left is not None and method not in left:
                    return left
        raise self._refused()

    def _try_keys(self, transport: Any) -> list[str] | None:
        agent = open_agent(self._hop.agent)
        try:
            for candidate in self._candidates(agent):
                key = candidate.agent_key
                if candidate.file is not None:
                    key = self._load(candidate.file)
                if key is None:
                    continue
                self._tried.append(candidate.name)
                try:
                    left = list(transport.auth_publickey(self._hop.user, key))
                except AuthenticationException:
                    if not transport.is_active():
                        raise
                    continue
                self.key_file = candidate.file
                return left
        finally:
            if agent is not None:
                agent.close()
        return None

    def _candidates(self, agent: Any) -> list[_Candidate]:
        """The keys to try, in order: chosen ones first, whichever of agent and file has them.

        Keys with a passphrase come last, since a person has to type it.
        """
        hop = self._hop
        files = [file for file in hop.identity_files if file.is_file()]
        plain = [file for file in files if not _is_locked(file)]
        agent_keys = list(agent.get_keys()) if agent is not None else []
        named = {_public_blob(file) for file in files}
        ours = [key for key in agent_keys if key.asbytes() in named]
        others = [key for key in agent_keys if key.asbytes() not in named]
        held = {key.asbytes() for key in ours}
        locked = [file for file in files if file not in plain and _public_blob(file) not in held]
        strangers = [] if hop.identities_only else _of_agent(others)
        if hop.identities_chosen:
            return [*_of_agent(ours), *_of_files(plain), *strangers, *_of_files(locked)]
        return [*_of_agent(ours), *strangers, *_of_files(plain), *_of_files(locked)]

    def _load(self, file: Path) -> Any:
        """The key in `file`, its passphrase asked for; None where it cannot be had."""
        passphrase: bytes | None = None
        for _ in range(TRIES + 1):
            try:
                return key_file.load(file, passphrase)
            except PASSPHRASE_NEEDED:
                question = f"Passphrase of {_shown(file)}: "
            except ValueError as exc:
                if passphrase is None:
                    self._tried.append(f"key {_shown(file)} (unreadable: {exc})")
                    return None
                question = f"Wrong passphrase. Passphrase of {_shown(file)}: "
            except (OSError, SSHException, paramiko.pkey.UnknownKeyType) as exc:
                self._tried.append(f"key {_shown(file)} (unreadable: {exc})")
                return None
            typed = self._prompt.secret(question)
            if typed is None:
                self._tried.append(f"key {_shown(file)} (has a passphrase that nobody typed)")
                return None
            self.secret_typed = True
            passphrase = typed.encode("utf-8")
        return None

    def _try_questions(self, transport: Any) -> list[str] | None:
        """keyboard-interactive: the server asks, a person answers (a password, a code)."""
        unanswered = False

        def answer(title: str, instructions: str, questions: list[tuple[str, bool]]) -> list[str]:
            nonlocal unanswered
            answers = []
            for text, _ in questions:
                typed = self._prompt.secret(f"{self._hop.shown}: {text.strip()} ")
                unanswered = unanswered or typed is None
                answers.append(typed or "")
            return answers

        for _ in range(TRIES):
            try:
                left = list(transport.auth_interactive(self._hop.user, answer))
            except AuthenticationException:
                if not transport.is_active():
                    raise
                if unanswered:
                    self._tried.append("questions (nobody answered)")
                    return None
                self._tried.append("answers to its questions")
                continue
            self.secret_typed = True
            return left
        return None

    def _try_passwords(self, transport: Any) -> list[str] | None:
        for _ in range(TRIES):
            typed = self._prompt.secret(f"Password of {self._hop.shown}: ")
            if typed is None:
                self._tried.append("password (nobody typed one)")
                return None
            self._tried.append("password")
            try:
                left = list(transport.auth_password(self._hop.user, typed, fallback=False))
            except AuthenticationException:
                if not transport.is_active():
                    raise
                continue
            self.secret_typed = True
            return left
        return None

    def _refused(self, why: str = "") -> AuthFailed:
        hop = self._hop
        tried = ", ".join(self._tried) or "nothing: no key and no agent was found"
        offered = f"; it accepts {', '.join(self._offered)}" if self._offered else ""
        hint = f"ssh-copy-id {hop.typed}"
        if len(self._tried) > 4:
            hint = "name the key: identity_file in hosts.toml, and IdentitiesOnly in ~/.ssh/config"
        return AuthFailed(f"{hop.shown} refuses the login{why}. Tried: {tried}{offered}", hint=hint)


def open_agent(socket_path: str | None) -> Any:
    """The user's agent, or None. `socket_path` is what IdentityAgent says."""
    if socket_path is not None and socket_path.lower() == "none":
        return None
    try:
        if socket_path is None:
            return paramiko.Agent()
        return _AgentAt(socket_path)
    except (SSHException, OSError):
        return None


class _AgentAt(paramiko.agent.AgentSSH):
    """An agent behind a socket of a given name; paramiko asks the environment only."""

    def __init__(self, path: str) -> None:
        import socket

        super().__init__()
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(path)
            self._connect(connection)  # type: ignore[attr-defined]
        except OSError:
            connection.close()
            raise

    def close(self) -> None:
        self._close()  # type: ignore[attr-defined]


def _public_blob(file: Path) -> bytes | None:
    """The public half beside a key file, which tells its key in the agent without a passphrase."""
    import base64

    try:
        text = file.with_name(file.name + ".pub").read_text(encoding="utf-8")
        return base64.b64decode(text.split()[1])
    except (OSError, IndexError, ValueError):
        return None


def _is_locked(file: Path) -> bool:
    """Whether a key file has a passphrase."""
    try:
        key_file.load(file, None)
    except PASSPHRASE_NEEDED:
        return True
    except Exception:  # noqa: BLE001  (the attempt to use it names the reason)
        return False
    return False


def _of_agent(keys: list[Any]) -> list[_Candidate]:
    return [
        _Candidate(f"agent key {getattr(key, 'comment', '') or key.fingerprint}", agent_key=key)
        for key in keys
    ]


def _of_files(files: list[Path]) -> list[_Candidate]:
    return [_Candidate(f"key {_shown(file)}", file=file) for file in files]


def _shown(file: Path) -> str:
    home = str(Path.home())
    return "~" + str(file)[len(home) :] if str(file).startswith(home + os.sep) else str(file)
