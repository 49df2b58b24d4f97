"""The users that every lab host has: one for each way in which a user may be awkward.

One shared host thus serves most tests: log in as the user who has the trouble.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Sudo = Literal["free", "password", "none"]
TINY_HOME = "24m"


@dataclass(frozen=True)
class User:
    """One of the cast. Passwords are the name twice."""

    name: str
    uid: int
    trait: str
    sudo: Sudo = "free"
    shell: str = "/bin/bash"
    home_options: str = ""
    """Mount options of a tmpfs at the home folder; "": an ordinary folder."""
    match: str = ""
    """Lines of this user's `Match User` block in sshd_config."""
    bashrc: str = ""

    @property
    def password(self) -> str:
        return self.name * 2


CAST = (
    User("ada", 1000, "passwordless sudo; the one to take when nothing special is needed"),
    User("bob", 1001, "sudo asks for the password", sudo="password"),
    User("cyd", 1002, "no sudo at all", sudo="none"),
    User("fay", 1003, "login shell fish", shell="/usr/bin/fish"),
    User("tia", 1004, "login shell tcsh", shell="/usr/bin/tcsh"),
    User(
        "eve",
        1005,
        "chatty: an SSH banner, and .bashrc prints on every command",
        match="Banner /etc/ssh/lab_banner",
        bashrc='echo "Welcome to the cluster, $USER!"; echo "Quota: 3% used." >&2\n',
    ),
    User("nox", 1006, "home on a noexec mount", home_options="noexec,nosuid"),
    User("tim", 1007, f"home on a disk of {TINY_HOME}", home_options=f"size={TINY_HOME}"),
    User("wes", 1008, "AllowTcpForwarding no", match="AllowTcpForwarding no"),
)
BY_NAME = {user.name: user for user in CAST}


def setup_script() -> str:
    """A shell script that makes the cast on a host being built."""
    lines = ["set -eu"]
    for user in CAST:
        lines += [
            f"useradd --create-home --uid {user.uid} --shell {user.shell} {user.name}",
            f"echo {user.name}:{user.password} | chpasswd",
        ]
        if user.sudo != "none":
            tag = "NOPASSWD: " if user.sudo == "free" else ""
            lines.append(f"echo '{user.name} ALL=(ALL) {tag}ALL' > /etc/sudoers.d/lab-{user.name}")
        if user.bashrc:
            rc = f"/home/{user.name}/.bashrc"
            # In front: Debian's .bashrc returns early in a shell that is not interactive.
            lines.append(
                f"printf '%s' '{user.bashrc}' | cat - {rc} > /tmp/rc && cat /tmp/rc > {rc}"
            )
        if user.home_options:
            options = f"{user.home_options},mode=0700,uid={user.uid},gid={user.uid}"
            lines.append(f"echo 'tmpfs /home/{user.name} tmpfs {options} 0 0' >> /etc/fstab")
    return "\n".join(lines) + "\n"


def sshd_config(release: str) -> str:
    """The hosts' /etc/ssh/sshd_config.d/lab.conf."""
    lines = [
        "HostKey /etc/ssh/ssh_host_ed25519_key",
        "AuthorizedKeysFile /etc/ssh/lab_authorized_keys .ssh/authorized_keys",
        "PasswordAuthentication yes",
        "MaxStartups 100",
    ]
    if release != "bookworm":
        lines.append("PerSourcePenalties no")  # all tests come from one address
    for user in CAST:
        if user.match:
            lines += [f"Match User {user.name}", f"    {user.match}"]
    return "\n".join(lines) + "\n"
