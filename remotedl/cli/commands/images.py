"""image: the images on a host."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from remotedl.cli.commands.work import HostOption
from remotedl.cli.context import HostArgument, JsonOption, YesOption, errand_of
from remotedl.cli.next_step import completed
from remotedl.cli.say import say, say_json
from remotedl.errors import UsageError

app = typer.Typer(no_args_is_help=True, help="The images on a host.")
Reference = Annotated[str, typer.Argument(metavar="IMAGE", help="org/name:tag.")]
ViaLaptop = Annotated[
    bool,
    typer.Option("--via-laptop", help="The host fetches through this laptop; restarts Docker."),
]


def one_host(argument: str | None, option: str | None) -> str | None:
    """HOST by either spelling. Raises UsageError where the two differ."""
    if argument is not None and option is not None and argument != option:
        raise UsageError(
            f"two hosts are named: {argument} and {option}", hint="remotedl image --help"
        )
    return argument or option


def register(root: typer.Typer) -> None:
    root.add_typer(app, name="image", rich_help_panel="A host")


@app.command("list")
def list_images(
    context: typer.Context,
    host: HostArgument = None,
    host_option: HostOption = None,
    as_json: JsonOption = False,
) -> None:
    """The catalogue, and what remotedl made on the host."""
    from remotedl.cli.render import amount
    from remotedl.images import catalogue
    from remotedl.session.image_errands import images_of

    with errand_of(context, one_host(host, host_option), quiet=True) as errand:
        made = images_of(errand)
    names = catalogue.names()
    if as_json:
        rows = [asdict(one) for one in made]
        say_json({"catalogue": list(names), "on_host": rows})
        return
    say(f"catalogue: {', '.join(names)}")
    for one in made:
        used = f"used by {', '.join(one.used_by)}" if one.used_by else "unused"
        say(f"{one.reference:<40} {one.variant:<6} {amount(one.size, 'B'):>9}  {used}")
    if not made:
        say(completed("none is on the host yet: remotedl image build"), err=True)


@app.command()
def build(
    context: typer.Context,
    host: HostArgument = None,
    host_option: HostOption = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Even if it is there.")] = False,
    via_laptop: ViaLaptop = False,
    yes: YesOption = False,
) -> None:
    """Build the project's image on the host, without starting anything."""
    from remotedl.session.image_errands import Fetching, build_image

    with errand_of(context, one_host(host, host_option)) as errand:
        fetching = Fetching(via_laptop, yes)
        reference = build_image(errand, rebuild=rebuild, fetching=fetching)
    say(reference)


@app.command()
def recipe(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="base, pytorch, pytorch:cu126, …")],
) -> None:
    """Write a catalogue image's Dockerfile into the project, to be changed there."""
    from remotedl.images.own_recipe import write_recipe
    from remotedl.session.project import project_root

    folder, lines = write_recipe(project_root(Path.cwd()), name)
    say(f"wrote {folder}", err=True)
    say("to build it, put this into hosts.toml:", err=True)
    for line in lines.splitlines():
        say(line)


@app.command()
def pull(
    context: typer.Context,
    image: Reference,
    host: HostArgument = None,
    host_option: HostOption = None,
    via_laptop: ViaLaptop = False,
    yes: YesOption = False,
) -> None:
    """Let the host fetch an image, with the laptop's credentials; they are not left there."""
    from remotedl.session.image_errands import Fetching, pull_image

    with errand_of(context, one_host(host, host_option)) as errand:
        image_id = pull_image(errand, image, Fetching(via_laptop, yes))
    say(image_id)


@app.command()
def load(
    context: typer.Context,
    image: Reference,
    host: HostArgument = None,
    host_option: HostOption = None,
) -> None:
    """Send an image of the laptop's Docker to a host without internet: only missing layers."""
    from remotedl.cli.render import amount
    from remotedl.session.image_errands import load_image

    with errand_of(context, one_host(host, host_option)) as errand:
        loaded = load_image(errand, image)
        sent = f"{loaded.layers_sent} layers sent, {loaded.layers_there} there already"
        errand.report.stage("load", f"{loaded.reference}: {sent}, {amount(loaded.sent, 'B')}")
    say(loaded.id)


@app.command()
def snapshot(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A name to find it by: image = remotedl/NAME.")],
    host: HostArgument = None,
    host_option: HostOption = None,
) -> None:
    """Keep the container's own filesystem as an image. Mounted folders are not in it."""
    from remotedl.session.image_errands import snapshot_image

    with errand_of(context, one_host(host, host_option)) as errand:
        kept = snapshot_image(errand, name)
        for folder in kept.left_out:
            errand.report.note(f"not in it, for it is mounted: {folder}")
    say(kept.reference)


@app.command()
def prune(
    context: typer.Context,
    host: HostArgument = None,
    host_option: HostOption = None,
    snapshots: Annotated[
        bool, typer.Option("--snapshots", help="Snapshots that nothing uses as well.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show it; remove nothing.")] = False,
    yes: YesOption = False,
) -> None:
    """Remove images that remotedl built and no container uses, after showing which."""
    from remotedl.cli.render import amount
    from remotedl.session.image_errands import prune_images

    with errand_of(context, one_host(host, host_option)) as errand:
        freed = prune_images(errand, snapshots=snapshots, yes=yes, dry_run=dry_run)
    if not dry_run:
        say(f"{amount(freed, 'B')} given back")
