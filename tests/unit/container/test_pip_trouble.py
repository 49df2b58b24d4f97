"""pip's last words, as pip wrote them on hosts where it failed."""

from __future__ import annotations

import pytest

from remotedl.container.pip_trouble import pip_trouble

NO_NETWORK = """\
WARNING: Retrying (Retry(total=0, connect=None, read=None, redirect=None, status=None)) after \
connection broken by 'NewConnectionError('<pip._vendor.urllib3.connection.HTTPSConnection object \
at 0x7f3eb85e39e0>: Failed to establish a new connection: [Errno -3] Temporary failure in name \
resolution')': /simple/ipykernel/
ERROR: Cannot install ipykernel>=7 because these package versions have conflicting dependencies.
The conflict is caused by:
    The user requested ipykernel>=7
    The user requested (constraint) ipykernel==7.4.0
ERROR: ResolutionImpossible: for help visit https://pip.pypa.io/en/latest/topics/
"""


@pytest.mark.parametrize(
    ("output", "what", "hint"),
    [
        (NO_NETWORK, "does not reach the package index", "proxy or mirrors.pip"),
        (
            "ERROR: Could not install packages: [Errno 28] No space left on device",
            "no space is left",
            "doctor",
        ),
        (
            "WARNING: Retrying ... SSLError(SSLCertVerificationError(1, '[SSL: "
            "CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate",
            "certificate",
            "certificate",
        ),
        (
            "WARNING: Retrying ... ProxyError('Cannot connect to proxy.', OSError('Tunnel "
            "connection failed: 407 Proxy Authentication Required'))",
            "refuses us",
            "password",
        ),
        (
            "ERROR: HTTP error 403 while getting x\nERROR: 403 Client Error: Forbidden for url: x",
            "refuses us",
            "mirrors.pip",
        ),
        ("ERROR: No matching distribution found for tensorbroad", "tensorbroad", "proxy"),
    ],
    ids=["no network", "disk", "certificate", "proxy", "forbidden", "unknown"],
)
def test_what_pip_means(output: str, what: str, hint: str) -> None:
    trouble = pip_trouble(output)
    assert what in trouble.what
    assert hint in trouble.hint
