"""Gives kernels their ordinary websocket back, beside jupyter_server_documents.

That extension runs the cells of open notebooks on the server, which is what we want it for: what
a kernel prints while no browser looks is in the notebook. It also puts a websocket of its own
before every kernel, which speaks the newest protocol only; clients that speak the older one
(editors, scripts) get no answer from it. The server's own speaks both, and cells run on the
server do not pass through either.
"""

from __future__ import annotations

from typing import Any

from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "remotedl_jupyter"}]


def _load_jupyter_server_extension(server: Any) -> None:
    server.web_app.settings["kernel_websocket_connection_class"] = ZMQChannelsWebsocketConnection
