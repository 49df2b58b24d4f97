"""What we change in Jupyter's server, beside jupyter_server_documents.

That extension keeps open documents on the server and runs the cells of notebooks there, which is
what we want it for: what a kernel prints while no browser looks is in the notebook.

- It puts a websocket of its own before every kernel, which speaks the newest protocol only;
  clients that speak the older one (editors, scripts) get no answer from it. The server's own
  speaks both, and cells run on the server do not pass through either.
- An open document whose file changes is merged with it: see remotedl_documents, and
  remotedl_replace for how files are written. The notice in the browser is notice.js.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from remotedl_documents import SCHEMA
from traitlets.config import Config

EVENT = {
    "$id": SCHEMA,
    "version": "1",
    "title": "A version of a file that could not be merged",
    "type": "object",
    "properties": {"path": {"type": "string"}, "copy": {"type": "string"}},
    "required": ["path", "copy"],
}


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "remotedl_jupyter"}]


def _link_jupyter_server_extension(server: Any) -> None:
    """Before the server makes its parts. What the user has set stays."""
    if "contents_manager_class" not in server.config.ServerApp:
        ours = Config()
        ours.ServerApp.contents_manager_class = "remotedl_replace.CarefulContentsManager"
        server.update_config(ours)


def _load_jupyter_server_extension(server: Any) -> None:
    settings = server.web_app.settings
    settings["kernel_websocket_connection_class"] = ZMQChannelsWebsocketConnection
    server.event_logger.register_event_schema(EVENT)
    known = version("jupyter_server_documents")
    if not known.startswith("0.3."):
        server.log.warning(f"jupyter_server_documents {known} is not known: nothing is merged.")
        return
    # Extensions come in the order of their names: the rooms' manager is there.
    rooms = settings["yroom_manager"]
    if "file_api_class" not in rooms.config.YRoom:
        ours = Config()
        ours.YRoom.file_api_class = "remotedl_documents.MergingFileAPI"
        rooms.update_config(ours)
