"""Host certificates: a host's key that an authority of known_hosts has signed.

The format is OpenSSH's PROTOCOL.certkeys. Reading one checks its signature; whether it is good for
a host at a time is asked separately, and who signs is `known_hosts.py`'s matter.
"""

from __future__ import annotations

from dataclasses import dataclass

import paramiko
from paramiko.message import Message
from paramiko.ssh_exception import SSHException

from remotedl.ssh.known_hosts import Key

SUFFIX = "-cert-v01@openssh.com"
HOST = 2
RSA = "ssh-rsa"
PUBLIC_FIELDS = {"ssh-ed25519": 1, RSA: 2, "ecdsa-sha2": 2}
"""How many fields make the public key of each kind, after its name."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A signed key, its signature checked."""

    key: Key
    """The host's own key."""
    authority: Key
    kind: int
    identity: str
    principals: tuple[str, ...]
    valid_after: int
    valid_before: int
    critical: bytes

    def fault(self, host: str, now_s: float) -> str | None:
        """Why it does not vouch for `host`, or None where it does."""
        if self.kind != HOST:
            return "it is a user's certificate, not a host's"
        if not self.valid_after <= now_s < self.valid_before:
            return "it is not valid at this time"
        if self.critical:
            return "it holds options that are not understood"
        if self.principals and host not in self.principals:
            return f"it is for {', '.join(self.principals)}, not for {host}"
        return None


def plain_kind(kind: str) -> str:
    """The kind of the key inside: rsa-sha2-512-cert-v01@openssh.com is about an ssh-rsa key."""
    plain = kind.removesuffix(SUFFIX)
    return RSA if plain.startswith("rsa-sha2-") else plain


def read(blob: bytes) -> Certificate:
    """Raises SSHException where it cannot be read or its signature is wrong."""
    message = Message(blob)
    name = message.get_text()
    kind = plain_kind(name)
    fields = PUBLIC_FIELDS.get(kind, PUBLIC_FIELDS.get(kind[:10]))
    if not name.endswith(SUFFIX) or fields is None:
        raise SSHException(f"a host certificate of a kind that is not known: {name}")
    message.get_string()  # the nonce
    public = Message()
    public.add_string(kind)
    for _ in range(fields):
        public.add_string(message.get_string())
    message.get_int64()  # the serial number
    who, identity = message.get_int(), message.get_text()
    principals = Message(message.get_string())
    names = []
    while principals.get_remainder():
        names.append(principals.get_text())
    after, before = message.get_int64(), message.get_int64()
    critical, _extensions, _reserved = (message.get_string() for _ in range(3))
    signer = message.get_string()
    signed = message.get_so_far()
    authority = Key(Message(signer).get_text(), signer)
    checker = paramiko.PKey.from_type_string(authority.kind, signer)
    if not checker.verify_ssh_sig(signed, Message(message.get_string())):
        raise SSHException("the signature of the host's certificate is wrong")
    key = Key(kind, public.asbytes())
    return Certificate(key, authority, who, identity, tuple(names), after, before, critical)
