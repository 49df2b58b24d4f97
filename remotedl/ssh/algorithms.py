"""What we offer a server: ciphers, MACs and key exchanges, the best first.

Everything that paramiko and cryptography can do, and ChaCha20-Poly1305, which `sealed.py` adds.
Not among it: umac-64 and umac-128 (neither library has UMAC) and sntrup761x25519. A server that
wants one of these alone is refused with its own list in the message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import paramiko
from paramiko.kex_curve25519 import KexCurve25519
from paramiko.ssh_exception import IncompatiblePeer

from remotedl.ssh.sealed import ChaChaPoly

CHACHA = "chacha20-poly1305@openssh.com"
CIPHERS = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    CHACHA,
    "aes128-ctr",
    "aes192-ctr",
    "aes256-ctr",
    "aes128-cbc",
    "aes192-cbc",
    "aes256-cbc",
    "3des-cbc",
)
CIPHER_INFO = {
    **paramiko.Transport._cipher_info,  # type: ignore[attr-defined]
    CHACHA: {
        "class": ChaChaPoly, "block-size": 8, "iv-size": 0, "key-size": 64, "is_aead": True,
    },
}  # fmt: skip
SEALED = frozenset(name for name, info in CIPHER_INFO.items() if info.get("is_aead"))
"""Ciphers that need no MAC beside them."""
MACS = (
    "hmac-sha2-256-etm@openssh.com",
    "hmac-sha2-512-etm@openssh.com",
    "hmac-sha2-256",
    "hmac-sha2-512",
    "hmac-sha1",
    "hmac-sha1-96",
    "hmac-md5",
    "hmac-md5-96",
)
CURVE = "curve25519-sha256"
KEX_INFO = {
    **paramiko.Transport._kex_info,  # type: ignore[attr-defined]
    CURVE: KexCurve25519,
}
KEX = tuple(
    name
    for offered in paramiko.Transport._preferred_kex  # type: ignore[attr-defined]
    for name in ((CURVE, offered) if offered.startswith(CURVE) else (offered,))
)

OFFERS = (
    ("key exchange", "kex_algo_list", "kex"),
    ("kind of host key", "server_key_algo_list", "keys"),
    ("cipher", "client_encrypt_algo_list", "ciphers"),
    ("cipher", "server_encrypt_algo_list", "ciphers"),
    ("MAC", "client_mac_algo_list", "macs"),
    ("MAC", "server_mac_algo_list", "macs"),
    ("compression", "server_compress_algo_list", "compression"),
)


def without_needless_macs(
    theirs: dict[str, Sequence[str]], ours: Mapping[str, Sequence[str]]
) -> None:
    """A cipher that seals needs no MAC, so none has to be agreed on; paramiko asks for one."""
    for way in ("client", "server"):
        ciphers = theirs[f"{way}_encrypt_algo_list"]
        agreed = next((name for name in ours["ciphers"] if name in ciphers), None)
        if agreed in SEALED:
            theirs[f"{way}_mac_algo_list"] = list(ours["macs"])


def nothing_in_common(
    theirs: Mapping[str, Sequence[str]], ours: Mapping[str, Sequence[str]]
) -> IncompatiblePeer | None:
    """What the two sides cannot agree on, with the server's list; None where it is nothing."""
    for what, list_name, name in OFFERS:
        offered = theirs[list_name]
        if not set(offered) & set(ours[name]):
            return IncompatiblePeer(
                f"no {what} in common: it offers {', '.join(offered) or 'none'}; "
                f"we know {', '.join(ours[name])}"
            )
    return None
