"""Keys of package repositories: whose they are by fingerprint, and how one is read. Pure.

A repository's packages are root's programs on the host. Its key is fetched over the network, so it
counts only if it is the one that the vendor's documentation and many others' scripts name.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator, Mapping

DOCKER_DEB = "9DC858229FC7DD38854AE2D88D81803C0EBFCD88"
DOCKER_RPM = "060A61C51B558A7F742B77AAC52FEB6B621E9F35"
NVIDIA_TOOLKIT = "C95B321B61E88C1809C4F759DDCAE044F796ECB0"
CUDA_KEYS: Mapping[str, tuple[str, str]] = {
    "deb": ("3bf863cc.pub", "EB693B3035CD5710E231E123A4B469963BF863CC"),
    "rpm": ("D42D0685.pub", "610C7B14E068A878070DA4E99CD0A493D42D0685"),
    "debian13": ("8793F200.pub", "02182E60104FCDC26EAE1B8597A5D4CB8793F200"),
    "fedora43": ("1940C73E.pub", "1940C73E"),
    "fedora44": ("73CD9B30.pub", "129994480EC63D2789BC98E490DFED2F73CD9B30"),
    "rhel10": ("CDF6BA43.pub", "CDF6BA43"),
    "suse16": ("3A8B5622.pub", "CF65941A859D4B4E6870F188736A284B3A8B5622"),
}
"""NVIDIA's name of a distribution -> the key's file in its CUDA repository, and the fingerprint.

Of the keys for fedora43 and rhel10 only the end of the fingerprint is known, which is in the name
of their file: it tells a mix-up, and no forger who takes the trouble.
"""
PUBLIC_KEY = 6
"""The packet of a primary key (RFC 9580, section 5.5.1.1)."""
ARMOUR = re.compile(
    rb"-----BEGIN PGP PUBLIC KEY BLOCK-----\r?\n(?:[^\r\n]+\r?\n)*\r?\n"
    rb"(.*?)\r?\n(?:=[^\r\n]*\r?\n)?-----END",
    re.DOTALL,
)


def is_pinned(found: tuple[str, ...], fingerprint: str) -> bool:
    """One key alone: whatever else were in the file would be trusted, too."""
    return len(found) == 1 and found[0].endswith(fingerprint)


def fingerprints(key: bytes) -> tuple[str, ...]:
    """Of every primary key in a key file, armoured or not; () for what is no key file."""
    blocks = [match.group(1) for match in ARMOUR.finditer(key)]
    try:
        bodies = [base64.b64decode(block) for block in blocks] or [key]
        found = [body for data in bodies for tag, body in _packets(data) if tag == PUBLIC_KEY]
    except (binascii.Error, IndexError):
        return ()
    return tuple(_fingerprint(body) for body in found if body)


def _fingerprint(body: bytes) -> str:
    """RFC 9580, section 5.5.4: SHA-1 of version 4, SHA-256 of version 6."""
    if body[0] == 6:
        return hashlib.sha256(b"\x9b" + len(body).to_bytes(4, "big") + body).hexdigest().upper()
    data = b"\x99" + len(body).to_bytes(2, "big") + body
    return hashlib.sha1(data, usedforsecurity=False).hexdigest().upper()


def _packets(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(tag, body); RFC 9580, section 4.2. Raises IndexError where the file ends early."""
    at = 0
    while at < len(data):
        head = data[at]
        if not head & 0x80:
            return
        if head & 0x40:
            tag, size, at = head & 0x3F, *_new_length(data, at + 1)
        else:
            width = 1 << (head & 3)
            tag, size = head >> 2 & 15, int.from_bytes(data[at + 1 : at + 1 + width], "big")
            at += 1 + width
        if at + size > len(data):
            raise IndexError
        yield tag, data[at : at + size]
        at += size


def _new_length(data: bytes, at: int) -> tuple[int, int]:
    first = data[at]
    if first < 192:
        return first, at + 1
    if first < 224:
        return ((first - 192) << 8) + data[at + 1] + 192, at + 2
    return int.from_bytes(data[at + 1 : at + 5], "big"), at + 5
