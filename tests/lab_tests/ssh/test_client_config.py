"""~/.ssh/config read by us and by `ssh -G`: the same values, over a large generated corpus."""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path

import pytest

from remotedl.errors import ConfigError
from remotedl.ssh import client_config
from remotedl.ssh.client_config import Settings

FILES = 120
"""Generated files a run; each is asked about all ALIASES."""
ALIASES = ("box", "Box", "gate", "a.lan", "192.0.2.9", "fe80::1")
SHOWN = (
    "hostname", "user", "port", "identityfile", "identityagent", "userknownhostsfile",
    "globalknownhostsfile", "revokedhostkeys", "hostkeyalias", "checkhostip", "identitiesonly",
    "stricthostkeychecking", "connecttimeout", "proxycommand", "proxyjump",
)  # fmt: skip
VALUES = {
    "HostName": ["192.0.2.7", "%h.example.org", "Upper.Example.ORG", "::1", "%%x"],
    "User": ["ada", "Bob", "corp\\ada", '"me too"', "ada@corp"],
    "Port": ["22", "2222", "443"],
    "IdentityFile": ["~/.ssh/a", "${RDL_T}/k", '"/with space/k"', "/p/%h-%r", "none", "'/q'"],
    "IdentityAgent": ["none", "SSH_AUTH_SOCK", "/run/agent", '"~/a b"'],
    "UserKnownHostsFile": ["/k1 /k2", '"/a b" ${RDL_T}/x', "/%h/%p/%k", "none", "/k\\ 1"],
    "GlobalKnownHostsFile": ["/g1", "none", '"/g 1" /g2'],
    "RevokedHostKeys": ["/revoked", "none"],
    "HostKeyAlias": ["MyBox", "low"],
    "CheckHostIP": ["yes", "No", "true"],
    "IdentitiesOnly": ["yes", "no"],
    "StrictHostKeyChecking": ["ask", "YES", "accept-new", "no", "off"],
    "ConnectTimeout": ["10", "10s", "1m30s", "none"],
    "ProxyCommand": ["nc %h %p # not a comment", "none", 'sh -c "a b"'],
    "ProxyJump": ["hop", "a@hop:7,two", "none", "ssh://ada@hop:33", "[::2]:22", "u@corp@h:1"],
    "ForwardAgent": ["yes"],
    "SendEnv": ["LANG LC_*"],
}
HOSTS = ["box", "b*", "!box *", "* !gate", "b?x", "gate a.lan", '"box"', "192.0.2.*", "BOX", "*"]
MATCHES = [
    "all", "host box", "host=*.example.org", "host *.lan,!a.lan", "originalhost box", "user ada",
    "!user ada", "localuser root", "localuser=nobody", "final all", "final host 192.0.2.7",
    "canonical all", "!final host box", 'exec "test %n = box"', 'exec "false"', 'user "me too"',
    "host box user root # c", "!host box", "tag", "host", "originalhost box all",
]  # fmt: skip
BROKEN = ['IdentityFile "open', "Port", "HostName a b", "Port=", "User ''", "HostKeyAlias x # y"]


def generated(number: int, folder: Path) -> Path:
    """A file with odd spacing, quotes, comments and Includes, always the same for a number."""
    chance = random.Random(number)
    included = [folder / f"inc{number}-{n}.conf" for n in range(2)]
    for file in included:
        file.write_text("\n".join(_lines(chance, chance.randrange(1, 6), [])))
    path = folder / f"config{number}"
    path.write_text("\n".join(_lines(chance, chance.randrange(4, 24), included)) + "\n")
    return path


def _lines(chance: random.Random, count: int, included: list[Path]) -> list[str]:
    lines = []
    for _ in range(count):
        key = chance.choice(list(VALUES))
        value = chance.choice(VALUES[key])
        draw = chance.random()
        if draw < 0.2:
            key, value = "Host", chance.choice(HOSTS)
        elif draw < 0.35:
            key, value = "Match", chance.choice(MATCHES[:17])
        elif draw < 0.42 and included:
            key, value = "Include", str(chance.choice([*included, included[0].parent / "inc*x"]))
            value = chance.choice([value, f'"{value}"'])
        elif draw < 0.45:
            lines.append(chance.choice(["", "  ", "# Host box", "\t#x", " \t"]))
            continue
        between = chance.choice([" ", "\t", "  ", " = ", "=", " =", "\t \t"])
        end = chance.choice(["", "", "", " ", "\t", "\f", " # note" if key != "ProxyJump" else ""])
        key = chance.choice([key, key.upper(), key.lower()])
        lines.append(chance.choice(["", "  ", "\t"]) + key + between + value + end)
    return lines


@pytest.fixture(autouse=True)
def _variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RDL_T", "/some/folder")
    if shutil.which("ssh") is None:
        pytest.skip("ssh is not installed (openssh-client)")


@pytest.mark.parametrize("number", range(FILES))
def test_it_says_what_ssh_says(number: int, tmp_path: Path) -> None:
    path = generated(number, tmp_path)
    for alias in ALIASES:
        assert _ours(path, alias) == _ssh(path, alias), f"{alias}\n{path.read_text()}"


@pytest.mark.parametrize("line", [*BROKEN, *(f"Match {words}" for words in MATCHES)])
def test_what_ssh_refuses_is_refused(line: str, tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text(f"Host box\n{line}\nUser last\n")
    assert _ours(path, "box") == _ssh(path, "box")


def _ssh(path: Path, alias: str) -> dict[str, list[str]] | None:
    done = subprocess.run(
        ["ssh", "-F", str(path), "-G", alias], capture_output=True, text=True, timeout=30
    )
    if done.returncode:
        return None
    found: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        key, _, value = line.partition(" ")
        if key in SHOWN:
            found.setdefault(key, []).append(value)
    return found


def _ours(path: Path, alias: str) -> dict[str, list[str]] | None:
    try:
        return _as_ssh_shows(client_config.lookup(client_config.read([path]), alias, {}))
    except ConfigError:
        return None


DEFAULT_KEYS = [
    f"~/.ssh/id_{kind}"
    for kind in ("rsa", "ecdsa", "ecdsa_sk", "ed25519", "ed25519_sk", "xmss", "dsa")
]


def _as_ssh_shows(settings: Settings) -> dict[str, list[str]]:
    def flag(keyword: str) -> list[str]:
        return ["yes" if settings.yes(keyword) else "no"]

    address = settings.address
    user_files = settings.paths("userknownhostsfile", "~/.ssh/known_hosts ~/.ssh/known_hosts2")
    strict = (settings.one("stricthostkeychecking") or "ask").lower()
    seconds = settings.seconds("connecttimeout")
    jump = settings.one("proxyjump") or "none"
    shown = {
        "hostname": [address if ":" in address else address.lower()],
        "user": [settings.user],
        "port": [str(settings.port())],
        "identityfile": settings.values.get("identityfile", DEFAULT_KEYS),
        "userknownhostsfile": [" ".join(map(str, user_files)) or "none"],
        "checkhostip": flag("checkhostip"),
        "identitiesonly": flag("identitiesonly"),
        "stricthostkeychecking": [
            {"yes": "true", "no": "false", "off": "false"}.get(strict, strict)
        ],
        "connecttimeout": ["none" if seconds is None else f"{seconds:g}"],
        "globalknownhostsfile": [
            " ".join(
                settings.values.get("globalknownhostsfile")
                or ["/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"]
            )
        ],
    }
    for keyword in ("revokedhostkeys", "hostkeyalias", "identityagent"):
        value = settings.one(keyword)
        if value is not None and (keyword, value) != ("revokedhostkeys", "none"):
            shown[keyword] = [value.lower() if keyword == "hostkeyalias" else value]
            if keyword == "identityagent":
                shown[keyword] = [settings.expanded(value)]
    if jump.lower() != "none":
        shown["proxyjump"] = [jump.replace("ssh://", "")]
    elif (command := settings.one("proxycommand")) is not None and command != "none":
        shown["proxycommand"] = [command]
    return shown
