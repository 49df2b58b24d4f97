"""A laptop whose network changes: the address that a connection goes out from is gone."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess

import pytest

from remotedl.ssh.address import stranded

ADDRESS = "198.18.77.9"
"""Of the range that is for tests."""


@pytest.mark.lab
def test_an_address_that_is_taken_away_strands_the_connection() -> None:
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("only root may give this machine an address")
    change = ["ip", "address", "add", f"{ADDRESS}/32", "dev", "lo"]
    subprocess.run(change, check=True)
    try:
        with socket.create_server((ADDRESS, 0)) as server:
            client = socket.create_connection(server.getsockname())
            assert client.getsockname()[0] == ADDRESS
            assert not stranded(client)
            subprocess.run([*change[:2], "del", *change[3:]], check=True)
            assert stranded(client)
            client.close()
    finally:
        subprocess.run([*change[:2], "del", *change[3:]], check=False, capture_output=True)
    assert not stranded(client)  # a closed one tells nothing


def test_what_is_no_tcp_socket_is_never_stranded() -> None:
    server = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(server.getsockname())
    left, right = socket.socketpair()
    assert not any(stranded(one) for one in (client, left, object()))
    for one in (client, server, left, right):
        one.close()
