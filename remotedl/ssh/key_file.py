"""Reading a private key's file: OpenSSH's own format, PKCS#8 and the older PEM.

What stands before the key is passed over, as ssh does: openssl writes "Bag Attributes" there.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import paramiko
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

BEGIN = b"-----BEGIN "
OPENSSH = BEGIN + b"OPENSSH PRIVATE KEY"
LONGEST = 1 << 20
KINDS = (
    (RSAPrivateKey, paramiko.RSAKey),
    (EllipticCurvePrivateKey, paramiko.ECDSAKey),
    (Ed25519PrivateKey, paramiko.Ed25519Key),
)


def load(file: Path, passphrase: bytes | None) -> Any:
    """The key, with the certificate beside it. As paramiko's PKey.from_path, and its errors:

    TypeError where a passphrase is needed, ValueError where it is wrong or this is no key.
    """
    with file.open("rb") as stream:
        data = stream.read(LONGEST)
    begin = data.find(BEGIN)
    if begin <= 0 and data.startswith(OPENSSH):
        return paramiko.PKey.from_path(file, passphrase)  # type: ignore[arg-type]
    if begin < 0:
        raise ValueError("it holds no private key")
    read = (
        serialization.load_ssh_private_key
        if data.startswith(OPENSSH, begin)
        else serialization.load_pem_private_key
    )
    found = read(data[begin:], passphrase)
    kind = next((ours for theirs, ours in KINDS if isinstance(found, theirs)), None)
    if kind is None:
        raise ValueError(f"a key of a kind that SSH does not know: {type(found).__name__}")
    text = found.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    ).decode("ascii")
    key = kind.from_private_key(io.StringIO(text))
    beside = file.with_name(f"{file.name}-cert.pub")
    if beside.is_file():
        key.load_certificate(str(beside))
    return key
