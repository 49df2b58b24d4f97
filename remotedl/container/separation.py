"""The network that a user's containers are on: a bridge of their own, on which they do not talk.

Decision: one for each user of the host, and not one for each project. An engine has some thirty
networks to give by default, and containers on two of its bridges are kept apart by its own rules
even where the kernel cannot keep them apart on one (br_netfilter). Nothing of ours listens on a
container's address anyway; this is for what the user's own programs do.
"""

from __future__ import annotations

from remotedl.container.spec import LABEL_OWNER, User
from remotedl.engine.engine import Engine
from remotedl.engine.networks import DEFAULT
from remotedl.engine.types import Container
from remotedl.errors import EngineError
from remotedl.report import Report

PREFIX = "remotedl-"


def network_name(user: User) -> str:
    """By number: names may hold anything."""
    return f"{PREFIX}{user.uid}"


def leave_network(engine: Engine, container: Container) -> None:
    """After a container was removed: its network goes with the last one that is on it.

    A stopped one counts: it does not start again without the very network that it was made on.
    """
    name, owner = container.network, container.labels.get(LABEL_OWNER, "")
    if not name.startswith(PREFIX):
        return
    if not any(other.network == name for other in engine.containers.find({LABEL_OWNER: owner})):
        engine.networks.remove(name)


def _too_large(there: int, mtu: int) -> bool:
    """The network's packets do not fit through `mtu`; one that says nothing has the usual 1500."""
    return 0 < mtu < (there or 1500)


def own_network(engine: Engine, user: User, report: Report, *, mtu: int = 0) -> str:
    """The name of this user's network, made where it is not there; "" where none can be had.

    `mtu`: what the host's way out takes; 0: what the engine's own bridge has.
    """
    name = network_name(user)
    if engine.report().podman:
        return ""  # without root each container has a network of its own already
    there = engine.networks.get(name)
    if there is not None and not _too_large(there.mtu, mtu):
        return name
    # a stopped container does not start again without the very network that it was made on
    others = any(c.network == name for c in engine.containers.find({LABEL_OWNER: user.name}))
    if there is not None and (others or not engine.networks.remove(name)):
        report.warn(
            f"downloads may hang: the container's network sends packets of {there.mtu or 1500} "
            f"bytes, the host's network card carries {mtu}",
            hint="remotedl down in your other projects on this host, then up again",
        )
        return name
    bridge = engine.networks.get(DEFAULT)
    mtu = mtu or (bridge.mtu if bridge is not None else 0)
    refused = ""
    for separate in (True, False):
        try:
            engine.networks.create(
                name, labels={LABEL_OWNER: user.name}, mtu=mtu, separate=separate
            )
        except EngineError as exc:
            refused = refused or exc.message
            if engine.networks.get(name) is not None:
                return name  # another `up` was faster
            continue
        if not separate:
            report.warn(
                "the engine cannot keep your own containers from each other: " + refused,
                hint="once none of yours runs there: sudo modprobe br_netfilter on the host",
            )
        return name
    report.warn(
        f"the container is on the engine's own bridge, which it shares with others: {refused}",
        hint="docker network prune on the host makes room for one of its own",
    )
    return ""
