"""What Docker must know: one merge into daemon.json, and one restart. Pure.

GPUs are one reason, the size of packets the other: Docker gives its networks 1500 bytes whatever
the host's network card carries. Behind a card that carries less (1460 on one large cloud, 1450 on
OpenStack, 1420 in VPNs) whatever a container or a build downloads hangs without a word.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from remotedl.provision.facts import ConfigFile, HostFacts
from remotedl.provision.plan_engine import restart_question
from remotedl.provision.settings import (
    SettingsBroken,
    as_text,
    cdi_setting,
    has_runtime,
    merged,
    read_settings,
)
from remotedl.provision.steps import Notice, Refusal, Run, Stage, Step, WriteFile

DAEMON_JSON = "/etc/docker/daemon.json"
DOCKER_MTU = 1500
"""Of Docker's networks, where nobody says otherwise."""
CDI_POSSIBLE = (25, 0)
HANGS = "downloads in containers and builds may hang"
MTU_FINDING = "mtu"


@dataclass(slots=True)
class SettingsPlan:
    steps: list[Step] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    refusal: Refusal | None = None


def plan_settings(
    facts: HostFacts, gpu: Mapping[str, object] | None, engine_steps: Sequence[Step]
) -> SettingsPlan:
    """`gpu`: the settings that GPUs take; None where daemon.json is not looked at for them."""
    done = SettingsPlan()
    packets = needs_mtu(facts, engine_steps)
    if gpu is None and not packets:
        return done
    file = next((f for f in facts.engine.settings if f.path == DAEMON_JSON), None)
    try:
        settings = read_settings((file.text or "") if file else "")
    except SettingsBroken as exc:
        _broken(facts, str(exc), done)
        return done
    if file is not None and file.text is None:
        done.refusal = Refusal(f"{DAEMON_JSON} cannot be read, so nothing can be merged into it")
        return done
    wanted = dict(gpu or {})
    if packets:
        wanted |= _packets(facts, settings, done)
    if wanted:
        done.steps.append(_write_settings(file, merged(settings, wanted), wanted))
    if packets and _keeps_its_bridge(facts):
        text = f"{HANGS}: Docker keeps its bridge as it is while containers run (live-restore)"
        hint = "stop the containers on the host, then: sudo systemctl restart docker"
        done.notices.append(Notice(text, hint, finding=MTU_FINDING))
        if not gpu:
            return done
    if wanted or _unread(facts, settings):
        done.steps.append(_restart(facts, only_packets=set(wanted) == {"mtu"} or not gpu))
    return done if facts.init.systemd else _by_hand(done, wanted)


def _by_hand(done: SettingsPlan, wanted: Mapping[str, object]) -> SettingsPlan:
    """Without systemd nobody here knows how dockerd was started, nor starts it again."""
    for without in dict.fromkeys(step.without for step in done.steps):
        finding = next(step.finding for step in done.steps if step.without == without)
        change = f"put {json.dumps(wanted)} into {DAEMON_JSON}, then " if wanted else ""
        text = f"{without}: Docker runs without systemd here, and has to be started again"
        hint = f"{change}restart dockerd, on the host"
        done.notices.append(Notice(text, hint, finding, grave=not finding))
    done.steps.clear()
    return done


def known_settings(facts: HostFacts) -> dict[str, object]:
    """daemon.json as far as it can be read; `plan_settings` says what is wrong with it."""
    file = next((f for f in facts.engine.settings if f.path == DAEMON_JSON), None)
    try:
        return read_settings((file.text or "") if file else "")
    except SettingsBroken:
        return {}


def needs_mtu(facts: HostFacts, engine_steps: Sequence[Step] = ()) -> bool:
    """Docker's packets are, or will be, larger than what the host's way out carries."""
    if not facts.uplink_mtu:
        return False
    if facts.engine.works:
        return facts.engine.kind == "docker" and facts.uplink_mtu < facts.engine.mtu
    comes = any(step.name == "install-docker" for step in engine_steps)
    return comes and facts.uplink_mtu < DOCKER_MTU


def _packets(
    facts: HostFacts, settings: Mapping[str, object], done: SettingsPlan
) -> dict[str, object]:
    theirs = settings.get("mtu")
    where = DAEMON_JSON if theirs else "dockerd's command line" if _flagged(facts, "mtu") else ""
    if not where:
        return {"mtu": facts.uplink_mtu}
    if not isinstance(theirs, int) or theirs > facts.uplink_mtu:
        text = (
            f"{HANGS}: {where} gives Docker's networks an MTU of {theirs or facts.engine.mtu}, the "
            f"host's network card carries {facts.uplink_mtu}"
        )
        hint = f"set mtu to {facts.uplink_mtu} there, then: sudo systemctl restart docker"
        done.notices.append(Notice(text, hint, finding=MTU_FINDING))
    return {}


def _keeps_its_bridge(facts: HostFacts) -> bool:
    return facts.engine.live_restore and any(c.running for c in facts.engine.containers)


def _flagged(facts: HostFacts, key: str) -> bool:
    """dockerd does not start with a setting that it is given twice."""
    return key in facts.engine.flags


def _broken(facts: HostFacts, problem: str, done: SettingsPlan) -> None:
    if "nvidia" in facts.engine.runtimes or facts.engine.cdi_devices:
        text = f"{DAEMON_JSON} is {problem}: Docker runs, and will not after its next restart"
        done.notices.append(Notice(text, f"sudoedit {DAEMON_JSON}, on the host"))
        return
    done.refusal = Refusal(
        f"{DAEMON_JSON} is {problem}; remotedl merges into it and never overwrites it",
        f"mend {DAEMON_JSON} on the host (or move it away), then: remotedl provision",
        finding="settings-broken",
    )


def _write_settings(
    file: ConfigFile | None, settings: dict[str, object], wanted: dict[str, object]
) -> Step:
    keys = " and ".join(sorted(wanted))
    reasons = list[str]()
    if set(wanted) - {"mtu"}:
        reasons.append("Docker does not know the GPU")
    if "mtu" in wanted:
        reasons.append(
            f"the host's network card carries packets of {wanted['mtu']} bytes, Docker sends more"
        )
    step = Step(
        "write-docker-settings",
        Stage.SETTINGS,
        f"set {keys} in {DAEMON_JSON}" + ("; its other settings stay" if file else ""),
        "; ".join(reasons),
        (WriteFile(DAEMON_JSON, as_text(settings)),),
        optional=True,
    )
    return _for_packets(step) if set(wanted) == {"mtu"} else step


def _for_packets(step: Step) -> Step:
    return replace(step, without=HANGS, finding=MTU_FINDING)


def _unread(facts: HostFacts, settings: Mapping[str, object]) -> bool:
    """daemon.json says what the running engine does not know yet."""
    engine = facts.engine
    if not engine.works:
        return False
    if has_runtime(settings) and "nvidia" not in engine.runtimes:
        return True
    if "mtu" in settings and needs_mtu(facts) and not _keeps_its_bridge(facts):
        return settings["mtu"] != engine.mtu
    return bool(cdi_setting(settings)) and engine.release >= CDI_POSSIBLE and not engine.cdi_dirs


def _restart(facts: HostFacts, *, only_packets: bool) -> Step:
    step = Step(
        "restart-docker",
        Stage.RESTART,
        "restart Docker",
        "its settings changed",
        (Run(("systemctl", "restart", "docker.service")),),
        confirm=restart_question(facts),
        optional=True,
    )
    return _for_packets(step) if only_packets else step
