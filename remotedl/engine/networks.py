"""Networks on the host's engine: bridges on which containers do not reach each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import docker.errors

from remotedl.engine.client import DialledClient, quoted, translated
from remotedl.engine.types import NOTHING, Network

DEFAULT = "bridge"
MTU = "com.docker.network.driver.mtu"
TALK = "com.docker.network.bridge.enable_icc"


class Networks:
    """`engine.networks`. A network is named by its id or its name."""

    def __init__(self, connected: Callable[[], DialledClient]) -> None:
        self._connected = connected

    def get(self, name: str) -> Network | None:
        """None when there is no such network."""
        with translated(f"looking at network {name}"):
            try:
                return _parsed(self._connected().inspect_network(name))
            except docker.errors.NotFound:
                return None

    def create(
        self,
        name: str,
        *,
        labels: Mapping[str, str] = NOTHING,
        mtu: int = 0,
        separate: bool = True,
    ) -> Network:
        """A bridge. `separate`: its containers do not reach each other. `mtu` 0: the engine's own.

        Raises EngineError, also where the engine has no more addresses.
        """
        options = {MTU: str(mtu)} if mtu else {}
        if separate:
            options[TALK] = "false"
        body = {"Name": name, "Driver": "bridge", "Options": options, "Labels": dict(labels)}
        with translated(f"creating network {name}"):
            answer = self._connected().call("POST", "/networks/create", body=body)
            return _parsed(self._connected().inspect_network(answer.json()["Id"]))

    def rejoin(self, name: str, container: str) -> None:
        """For a stopped container whose network was removed, and is there again by that name."""
        with translated(f"putting container {container} on network {name}"):
            for verb, more in (("disconnect", {"Force": True}), ("connect", {})):
                body = {"Container": container, **more}
                self._connected().call("POST", f"/networks/{quoted(name)}/{verb}", body=body)

    def remove(self, name: str) -> bool:
        """False when there was none, or a container is on it."""
        with translated(f"removing network {name}"):
            try:
                self._connected().call("DELETE", f"/networks/{quoted(name)}")
            except docker.errors.APIError as exc:
                if exc.status_code in (403, 404, 409):
                    return False
                raise
            return True


def _parsed(found: Mapping[str, Any]) -> Network:
    options = found.get("Options") or {}
    mtu = str(options.get(MTU, ""))
    return Network(
        id=str(found["Id"]),
        name=str(found["Name"]),
        labels=dict(found.get("Labels") or {}),
        mtu=int(mtu) if mtu.isdigit() else 0,
        separate=options.get(TALK) == "false",
    )
