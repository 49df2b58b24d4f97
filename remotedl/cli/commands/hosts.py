"""provision: what a host needs before a container can run on it."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from remotedl.cli.context import AcceptOption, HostArgument, JsonOption, YesOption, errand_of
from remotedl.cli.next_step import completed
from remotedl.cli.say import say, say_json
from remotedl.errors import UsageError

if TYPE_CHECKING:
    from remotedl.provision.steps import Action, Plan
    from remotedl.session.errands import Errand


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel="A host")(provision)


def provision(
    context: typer.Context,
    host: HostArgument = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show every step and why; change nothing.")
    ] = False,
    undo: Annotated[
        bool, typer.Option("--undo", help="Take back what provisioning changed, newest first.")
    ] = False,
    data: Annotated[
        bool,
        typer.Option("--data", help="With --undo: remove Docker's volumes and images, too."),
    ] = False,
    reboot: Annotated[
        bool, typer.Option("--reboot", help="Do a reboot that is needed, and go on after it.")
    ] = False,
    via_laptop: Annotated[
        bool, typer.Option("--via-laptop", help="The host fetches packages through this laptop.")
    ] = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
    accept_new: AcceptOption = False,
) -> None:
    """Make a host ready: NVIDIA's driver, Docker, the Container Toolkit. Twice changes nothing."""
    if dry_run and undo:
        raise UsageError(
            "--dry-run and --undo do not go together", hint="remotedl provision --help"
        )
    if reboot and via_laptop:
        raise UsageError(
            "--reboot and --via-laptop do not go together: the way through the laptop would break",
            hint="remotedl provision --via-laptop, and --reboot afterwards",
        )
    if data and not undo:
        raise UsageError("--data goes with --undo", hint="remotedl provision --undo --data")
    if as_json and not dry_run:
        raise UsageError("--json goes with --dry-run", hint="remotedl provision --dry-run --json")
    with errand_of(context, host, accept_new=accept_new, quiet=as_json) as errand:
        if dry_run:
            _print_plan(_preview(errand), as_json=as_json)
        elif undo:
            _undo(errand, yes=yes, data=data)
        else:
            _converge(errand, yes=yes, reboot=reboot, via_laptop=via_laptop)


def _preview(errand: "Errand") -> "Plan":
    from remotedl.provision.apply import preview
    from remotedl.provision.steps import wish_of

    remote = errand.connect()
    try:
        return preview(remote, wish_of(errand.host))
    finally:
        remote.close()


def _converge(errand: "Errand", *, yes: bool, reboot: bool, via_laptop: bool) -> None:
    from remotedl.session.making_ready import make_ready

    outcome = make_ready(errand, yes=yes, reboot=reboot, through_laptop=via_laptop)
    done = f"{len(outcome.done)} steps done" if outcome.done else "nothing to do"
    engine = outcome.facts.engine.version or "no Docker"
    errand.report.stage("provision", f"{errand.host_name}: {done}; Docker {engine}")


def _undo(errand: "Errand", *, yes: bool, data: bool) -> None:
    from remotedl.provision.undo import undo
    from remotedl.session.project import known_projects

    remote = errand.connect()
    try:
        outcome = undo(
            remote,
            report=errand.report,
            confirm=lambda question: yes or errand.prompt.confirm(question),
            remove_data=lambda question: data or (not yes and errand.prompt.confirm(question)),
            projects=known_projects(),
        )
    finally:
        remote.close()
    if outcome.question:
        raise UsageError(
            f"nothing was taken back, since nobody said yes to: {outcome.question}",
            hint="remotedl provision --undo --yes",
        )
    for gone in outcome.went:
        errand.report.note(f"gone: {gone}")
    for left in outcome.left:
        errand.report.note(f"left: {left.what}: {left.why}")
    undone = f"{len(outcome.undone)} steps taken back" if outcome.undone else "nothing to take back"
    errand.report.stage("undo", f"{errand.host_name}: {undone}")


def _print_plan(plan: "Plan", *, as_json: bool) -> None:
    if as_json:
        say_json(_plain(asdict(plan)))
        return
    if plan.refusal is not None:
        say(f"refused: {plan.refusal.reason}")
        if plan.refusal.hint:
            say(f"  next: {completed(plan.refusal.hint)}")
    for step in plan.steps:
        say(f"{step.stage.value:<9} {step.what}")
        say(f"          because {step.why}")
        for action in step.actions:
            for line in _shown(action).splitlines():
                say(f"            {line}")
    for kept in plan.kept:
        say(f"{kept.stage.value:<9} nothing to do: {kept.why}")
    for notice in plan.notices:
        hint = f" (next: {completed(notice.hint)})" if notice.hint else ""
        say(f"note: {notice.text}{hint}")


def _shown(action: "Action") -> str:
    from remotedl.provision.steps import Run, TrustKey

    if isinstance(action, Run):
        return " ".join(action.argv)
    if isinstance(action, TrustKey):
        return f"fetch {action.url}, check that it is {action.fingerprint}, write {action.path}"
    return f"write {action.path}"


def _plain(value: Any) -> Any:
    """What json can hold: mappings with text keys; hints completed as on the terminal."""
    if isinstance(value, dict):
        whole = {**value, "hint": completed(value["hint"])} if "hint" in value else value
        return {str(key): _plain(one) for key, one in whole.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value
