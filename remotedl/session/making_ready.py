"""`remotedl provision` over a connection of its own: with a reboot, or through the laptop."""

from __future__ import annotations

from contextlib import ExitStack

from remotedl.config.places import allowed_lan
from remotedl.provision.apply import Outcome, converge
from remotedl.provision.steps import wish_of
from remotedl.provision.via_laptop import via_laptop
from remotedl.session.errands import Errand
from remotedl.ssh.remote import Remote


def make_ready(errand: Errand, *, yes: bool, reboot: bool, through_laptop: bool) -> Outcome:
    """Make the host ready. Raises ProvisionError; RebootNeeded unless `reboot`."""
    remote = errand.connect()
    last: Remote = remote
    try:
        with ExitStack() as stack:
            wish = wish_of(errand.host)
            if through_laptop:
                way = via_laptop(remote, wish, lan=allowed_lan(), report=errand.report)
                wish = stack.enter_context(way).wish
            outcome = converge(
                remote,
                wish,
                report=errand.report,
                confirm=lambda question: yes or errand.prompt.confirm(question),
                reconnect=errand.connect if reboot else None,
            )
            last = outcome.remote or remote
            return outcome
    finally:
        last.close()
        remote.close()
