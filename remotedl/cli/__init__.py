"""Parse, call, render. typer and rich are imported in this room alone."""


def main() -> None:
    """The `remotedl` command."""
    from remotedl.cli.exits import run

    run()
