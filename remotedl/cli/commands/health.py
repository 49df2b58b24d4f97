"""doctor and gpus: what is wrong with a host, and who uses what of it."""

import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated

import typer

from remotedl.cli.context import AcceptOption, HostArgument, JsonOption, errand_of
from remotedl.cli.next_step import completed
from remotedl.cli.say import say, say_json
from remotedl.errors import ProvisionError

if TYPE_CHECKING:
    from remotedl.provision.findings import Finding
    from remotedl.provision.gpus import GpuView

MARKS = {"bad": "✗", "warn": "!", "note": "·", "good": "✓"}


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel="A host")(doctor)
    app.command(rich_help_panel="A host")(gpus)


def doctor(
    context: typer.Context,
    host: HostArgument = None,
    fix: Annotated[bool, typer.Option("--fix", help="Do the repairs that harm nobody.")] = False,
    as_json: JsonOption = False,
    accept_new: AcceptOption = False,
) -> None:
    """Check laptop, link, host, GPU, engine, toolkit, disk and ports; say what mends each trouble.

    Ends with one line: ready, or the first thing to do. Status 30 where something is bad.
    """
    from remotedl.provision.findings import Grade, last_line
    from remotedl.session.health import examine_host

    with errand_of(context, host, accept_new=accept_new, quiet=True) as errand:
        found, mended = examine_host(errand, fix=fix)
        name = errand.host_name
    found = [replace(one, mend=completed(one.mend)) for one in found]
    line = last_line(found, name)
    if as_json:
        rows = [{**asdict(one), "fix": one.safe_to_fix} for one in found]
        say_json({"findings": rows, "conclusion": line})
    else:
        for one in found:
            _print(one)
        for one in mended:
            say(f"mended: {one.what}")
        say(line)
    if any(one.grade is Grade.BAD for one in found):
        raise typer.Exit(ProvisionError.exit_code)


def gpus(context: typer.Context, host: HostArgument = None, as_json: JsonOption = False) -> None:
    """The host's GPUs, what uses them, and who."""
    from remotedl.session.health import gpu_views

    with errand_of(context, host, quiet=True) as errand:
        views, trouble = gpu_views(errand)
    if as_json:
        say_json([asdict(view) for view in views])
        return
    for view in views:
        _print_gpu(view)
    if not views:
        say(trouble or "the host has no NVIDIA GPU that its driver shows", err=True)
        say(completed("next: remotedl doctor"), err=True)


def _print(finding: "Finding") -> None:
    say(f"{MARKS[finding.grade.value]} {finding.place.value:<8} {finding.what}")
    if finding.cause:
        say(f"             because {finding.cause}")
    if finding.mend:
        say(f"             next: {finding.mend}")


def _print_gpu(view: "GpuView") -> None:
    from remotedl.cli.render import amount

    gpu = view.gpu
    load = "" if gpu.utilisation is None else f"{gpu.utilisation:>3} %"
    memory = f"{amount(gpu.memory_used, 'B')} of {amount(gpu.memory_total, 'B')}"
    say(f"{gpu.index}  {gpu.name:<28} {load}  {memory}  {'free' if view.free else ''}")
    for holder in view.holders:
        used = f"  {amount(holder.memory, 'B')}" if holder.memory else ""
        until = ""
        if holder.until:
            until = f"  until {time.strftime('%H:%M', time.localtime(holder.until))}"
        say(f"     {holder.kind:<9} {holder.user:<12} {holder.what}{used}{until}")
