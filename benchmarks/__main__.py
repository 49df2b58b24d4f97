"""`python -m benchmarks [NAME…]`: run them, print the tables, keep them in RESULTS.md.

A benchmark is a module of this folder with `main() -> list[Row]`. RESULTS.md has one section for
each; a run of some leaves the sections of the others as they are. Ends with status 1 when a
target was missed.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

import benchmarks
from benchmarks.table import Row, machine, table

RESULTS = Path(__file__).with_name("RESULTS.md")
TITLE = (
    "# Benchmarks\n\nWritten by `make bench`; ours beside the peer, in one run on one machine.\n"
)

Main = Callable[[], list[Row]]


def main(argv: list[str]) -> int:
    found = discover()
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(found))
    names = parser.parse_args(argv).names or list(found)
    if unknown := [name for name in names if name not in found]:
        parser.error(f"no such benchmark: {', '.join(unknown)} (there are {', '.join(found)})")
    missed = 0
    for name in names:
        stamp = f"{time.strftime('%Y-%m-%d')}, {machine()}"
        print(f"{name} …", file=sys.stderr, flush=True)
        rows = found[name]()
        print(f"{table(rows)}\n", flush=True)
        keep(name, f"{stamp}\n\n{table(rows)}\n")
        missed += sum(not row.reached for row in rows)
    if missed:
        print(f"{missed} target(s) missed", file=sys.stderr)
    return 1 if missed else 0


def discover() -> dict[str, Main]:
    """The benchmarks by name, sorted."""
    found: dict[str, Main] = {}
    for module in sorted(pkgutil.iter_modules(benchmarks.__path__), key=lambda m: m.name):
        if module.name == "__main__":
            continue
        run = getattr(importlib.import_module(f"benchmarks.{module.name}"), "main", None)
        if run is not None:
            found[module.name] = run
    return found


def keep(name: str, text: str) -> None:
    """Put one benchmark's section into RESULTS.md, in the place of its old one."""
    old = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else TITLE
    head, *parts = re.split(r"^## ", old, flags=re.MULTILINE)
    sections = dict(part.split("\n", 1) for part in parts)
    sections[name] = f"\n{text}\n"
    body = "".join(f"## {title}\n\n{sections[title].strip()}\n\n" for title in sorted(sections))
    RESULTS.write_text(f"{head.strip()}\n\n{body.strip()}\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
