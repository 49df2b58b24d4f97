"""run, jobs, logs, stop, shell, open: working where the GPU is."""

import os
import re
import shlex
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from remotedl.cli.context import HostArgument, JsonOption, errand_of
from remotedl.cli.next_step import completed
from remotedl.cli.say import job_output, say, say_json
from remotedl.errors import ContainerError, UsageError

if TYPE_CHECKING:
    from remotedl.container.jobs import Job

JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="An id of `remotedl jobs`.")]
HostOption = Annotated[
    str | None, typer.Option("--host", "-H", help="Not the default host.", show_default=False)
]
HOST = "remotedl.host"
TYPED = "remotedl.typed"
SHELL_SYNTAX = re.compile(r"&&|\|\||[|;<>$`*\s]")
SECOND_CTRL_C_S = 3.0


class CommandLine(TyperCommand):
    """`[OPTIONS] [HOST] -- CMD…`, or `[OPTIONS] CMD…`, where the first word begins the command.

    Whatever follows that word is the command's: its options, and a `--` of its own too.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        def positional(words: list[str]) -> list[str] | None:
            """The words that are no options of ours; None where an option is not one of ours."""
            parser = self.make_parser(ctx)
            parser.allow_interspersed_args = True
            try:
                return list(parser.parse_args(list(words))[0].get("words") or ())
            except typer.TyperException:
                return None

        host, options = host_before_dashes(args, positional)
        ctx.meta[HOST], ctx.meta[TYPED] = host, list(args)
        ctx.allow_interspersed_args = False
        return super().parse_args(ctx, options)


def register(app: typer.Typer) -> None:
    panel = "Work"
    app.command(cls=CommandLine, rich_help_panel=panel)(run)
    app.command(rich_help_panel=panel)(jobs)
    app.command(rich_help_panel=panel)(logs)
    app.command(rich_help_panel=panel)(stop)
    app.command(cls=CommandLine, rich_help_panel=panel)(shell)
    app.command("open", rich_help_panel=panel)(open_page)


def run(
    context: typer.Context,
    words: Annotated[
        list[str], typer.Argument(metavar="[HOST] -- CMD...", help="What to run, after --.")
    ],
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return at once.")] = False,
    after_sync: Annotated[
        bool, typer.Option(help="Start only when the host has every file as it is saved here.")
    ] = True,
    gpus: Annotated[
        str | None,
        typer.Option(
            "--gpus",
            help="Of the container's: 1 (the idlest), 0,3, all or none.",
            show_default=False,
        ),
    ] = None,
    interactive: Annotated[
        bool, typer.Option("-i", "-t", help="Run it on this terminal; it ends with it. No job.")
    ] = False,
    notify: Annotated[bool, typer.Option("--notify", help="Tell its end on this desktop.")] = False,
) -> None:
    """Run a job where the GPU is; it outlives the connection. Passes on its exit code.

    Ctrl-C detaches and the job goes on; a second one right after stops it. A job reads nothing
    from this terminal: it has no stdin.
    """
    from remotedl.session.errands import JobWish, start_job
    from remotedl.session.options import asked_gpus

    host, argv = context.meta[HOST], words
    refuse_shell_syntax(argv)
    if interactive:
        raise typer.Exit(attached(context, host, argv))
    wish = JobWish(after_sync, None if gpus is None else asked_gpus(gpus), notify)
    if _input_waits():
        say(
            "what comes in here is not passed on: a job has no stdin"
            "  next: put it in a file of the project, or use remotedl shell",
            err=True,
        )
    with errand_of(context, host, quiet=True) as errand:
        job_id = start_job(errand, argv, wish=wish, cwd=Path.cwd())
        record = errand.session()
        watched = record is not None and not record.alone
        if notify and detach and not watched:
            errand.report.warn(
                "no session runs that could tell the end of the job", hint="remotedl up -d"
            )
    if detach:
        say(job_id)
        say(completed(f"next: remotedl logs -f {job_id}"), err=True)
        return
    _follow(context, host, job_id, notify=notify and not watched)


def jobs(
    context: typer.Context,
    host: HostArgument = None,
    as_json: JsonOption = False,
    files: Annotated[
        str | None,
        typer.Option(
            metavar="JOB", help="The files that a job saw: digest, size, path.", show_default=False
        ),
    ] = None,
) -> None:
    """The project's jobs on the host: state, exit code, how long, what."""
    from remotedl.cli.render import amount, lasting
    from remotedl.session.errands import files_seen, list_jobs

    if files is not None:
        with errand_of(context, host, quiet=True) as errand:
            for line in files_seen(errand, files).splitlines():
                say(line)
        return
    with errand_of(context, host, quiet=True) as errand:
        known = list_jobs(errand)
        if known.age_s is not None:
            errand.report.warn(
                f"there is no link to {errand.host_name} ({known.why}): this is how the jobs "
                f"stood {lasting(known.age_s)} ago",
                hint="remotedl status",
            )
    rows = known.rows
    if as_json:
        say_json(rows)
        return
    if not rows:
        say("no jobs yet; start one: remotedl run -- python train.py", err=True)
    for row in rows:
        spent = ""
        if row["started"] is not None:
            spent = lasting((row["ended"] or time.time()) - row["started"])
        code = "" if row["code"] is None else f" {row['code']}"
        say(f"{row['id']}  {row['state'] + code:<12} {spent:>12}  {row['command']}")
        if row["output_left_out"]:
            gone = amount(row["output_left_out"], "B")
            say(f"    {gone} of its output are left out: job_output_limit", err=True)
        if row["output_dropped"]:
            gone = amount(row["output_dropped"], "B")
            say(f"    {gone} of its output are lost: the host's disk was full", err=True)


def logs(
    context: typer.Context,
    job: Annotated[
        str | None,
        typer.Argument(metavar="[JOB]", help="An id of `remotedl jobs`; default: the newest."),
    ] = None,
    host: HostOption = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Until the job ends.")] = False,
    tail: Annotated[
        int | None, typer.Option("--tail", "-n", min=0, help="Only the last lines.")
    ] = None,
) -> None:
    """A job's output since its start."""
    from remotedl.session.errands import follow_job, newest_job

    with errand_of(context, host, quiet=True) as errand:
        job = job or newest_job(errand)
        if not follow:
            with job_output(plain=_plain(context)) as (out, err):
                follow_job(errand, job, out, err, tail=tail, wait=False)
            return
    _follow(context, host, job, tail=tail)


def stop(
    context: typer.Context,
    job: JobArgument,
    host: HostOption = None,
    grace: Annotated[
        float, typer.Option(min=0, help="Seconds between the polite end and the hard one.")
    ] = 10.0,
) -> None:
    """End a job and all of its processes: TERM, then KILL."""
    from remotedl.session.errands import open_jobs

    with errand_of(context, host, quiet=True) as errand, open_jobs(errand) as found:
        ended = found.stop(job, grace)
    say(f"{ended.id}: {ended.state.value}" + ("" if ended.code is None else f" {ended.code}"))


def shell(
    context: typer.Context,
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[HOST] [-- CMD...]", help="Run this instead of a shell."),
    ] = None,
) -> None:
    """Open a terminal in the container, in the project's folder. Passes on its exit code."""
    host, argv = context.meta[HOST], words or []
    if "--" not in context.meta[TYPED]:
        if len(argv) > 1:
            raise UsageError("a command stands after --", hint="remotedl shell -- ipython")
        host, argv = (argv[0] if argv else None), []
    raise typer.Exit(attached(context, host, argv))


def attached(context: typer.Context, host: str | None, argv: list[str]) -> int:
    """A command, or a shell, on this terminal; its exit code. It ends with the connection."""
    from remotedl.cli.terminal import interact, own_pty
    from remotedl.session.errands import inside_folder, require_running, workplace

    with errand_of(context, host, quiet=True) as errand, workplace(errand) as (place, ground):
        require_running(errand, place)
        if not argv:
            return interact(place.runtime.shell(own_pty()))
        folder = inside_folder(errand, ground, Path.cwd())
        return interact(place.runtime.start(argv, cwd=folder, pty=own_pty()))


def open_page(
    context: typer.Context,
    page: Annotated[
        str, typer.Argument(help="jupyter, tensorboard or a port of `ports`.")
    ] = "jupyter",
    host: HostOption = None,
    print_only: Annotated[bool, typer.Option("--print", help="Only print the address.")] = False,
) -> None:
    """Open Jupyter, TensorBoard or a port of the running session in the browser."""
    from remotedl.session.errands import page_url

    if page not in ("jupyter", "tensorboard") and not page.isdigit():
        raise UsageError(
            f"no page {page}",
            hint="remotedl open jupyter, remotedl open tensorboard, or a port of `ports`",
        )
    with errand_of(context, host, quiet=True) as errand:
        url = page_url(errand, page)
    say(url)
    if not print_only:
        from remotedl.cli.browser import show_page

        show_page(url, wait=True)


def host_before_dashes(
    args: list[str], positional: Callable[[list[str]], list[str] | None]
) -> tuple[str | None, list[str]]:
    """HOST of `HOST -- CMD…`, and the words without it. Pure.

    `positional` tells which words of a command line are no options. A `--` behind more than one
    such word is the command's own.
    """
    if "--" not in args:
        return None, args
    at = args.index("--")
    before, after = args[:at], args[at:]
    if not after[1:]:
        raise UsageError("nothing to run after --", hint="remotedl run -- python train.py")
    found = positional(before)
    if found is None or len(found) > 1:
        return None, args
    for place, word in enumerate(before):
        rest = before[:place] + before[place + 1 :]
        # The same word may be the value of an option as well.
        if [word] == found and positional(rest) == []:
            return word, rest + after
    return None, args


def refuse_shell_syntax(argv: list[str]) -> None:
    """One word with spaces or shell syntax is no program. Raises UsageError with what to type."""
    if len(argv) > 1 or SHELL_SYNTAX.search(argv[0]) is None or Path(argv[0]).exists():
        return
    raise UsageError(
        f"there is no program of the name {argv[0]!r}: a command is given word by word, and no "
        "shell reads it",
        hint=f"remotedl run -- bash -c {shlex.quote(argv[0])}",
    )


def _follow(
    context: typer.Context,
    host: str | None,
    job_id: str,
    *,
    tail: int | None = None,
    notify: bool = False,
) -> None:
    """`notify`: there is no session that tells its end."""
    from remotedl.session.errands import follow_job

    with errand_of(context, host, quiet=True) as errand:
        try:
            with job_output(plain=_plain(context)) as (out, err):
                job = follow_job(errand, job_id, out, err, tail=tail)
        except BrokenPipeError:
            say(
                f"nobody reads on; the job goes on: remotedl logs -f {job_id}"
                f" · remotedl stop {job_id}",
                err=True,
            )
            raise
        except KeyboardInterrupt:
            say(err=True)
            say(
                f"detached; the job goes on. Back: remotedl logs -f {job_id}"
                "  (Ctrl-C again stops it)",
                err=True,
            )
            if not _asked_again():
                raise
            _stop(context, host, job_id)
            raise
    if notify:
        _tell_end(job)
    _finish(job)


def _input_waits() -> bool:
    """Whether somebody gave us a file or piped something in, and means it to be read."""
    try:
        kind = os.fstat(sys.stdin.fileno())
    except (OSError, ValueError, AttributeError):
        return False
    if stat.S_ISREG(kind.st_mode):
        return kind.st_size > 0
    if not stat.S_ISFIFO(kind.st_mode) or os.name != "posix":
        return False
    import fcntl
    import termios

    waiting = fcntl.ioctl(sys.stdin.fileno(), termios.FIONREAD, bytes(4))
    return int.from_bytes(waiting, sys.byteorder) > 0


def _tell_end(job: "Job") -> None:
    from remotedl.session.digest import job_end_line
    from remotedl.session.notify import notify
    from remotedl.session.watching import job_row

    notify("remotedl", job_end_line(job_row(job)))


def _asked_again() -> bool:
    try:
        time.sleep(SECOND_CTRL_C_S)
    except KeyboardInterrupt:
        return True
    return False


def _stop(context: typer.Context, host: str | None, job_id: str) -> None:
    from remotedl.session.errands import open_jobs

    with errand_of(context, host, quiet=True) as errand, open_jobs(errand) as found:
        found.stop(job_id)
    say(f"stopped {job_id}", err=True)


def _finish(job: "Job") -> None:
    from remotedl.container.jobs import JobState

    if job.state is JobState.LOST:
        raise ContainerError(
            f"job {job.id} went down with its host", hint=f"remotedl logs {job.id}"
        )
    raise typer.Exit(job.code or 0)


def _plain(context: typer.Context) -> bool:
    return bool(context.find_root().obj.plain)
