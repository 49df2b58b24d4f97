"""What a job saw, as text."""

from __future__ import annotations

from remotedl.sync.agent.tree import DIR, Entry, Kind
from remotedl.sync.manifest import digest_of, manifest

TREE = {
    "src": DIR,
    "src/a b.py": Entry(Kind.FILE, bytes(32), 7, True),
    "link": Entry(Kind.LINK, target="src/a b.py"),
    "odd\n\udcffname": Entry(Kind.FILE, bytes([255]) * 32, 0),
}


def test_each_path_is_a_line() -> None:
    assert manifest(TREE).decode().splitlines() == [
        '->"src/a b.py" 0 - "link"',
        f'{"ff" * 32} 0 - "odd\\n\\udcffname"',
        '- 0 - "src"',
        f'{"00" * 32} 7 x "src/a b.py"',
    ]


def test_the_name_is_of_the_content_alone() -> None:
    again = dict(reversed(TREE.items()))
    assert digest_of(manifest(again)) == digest_of(manifest(TREE))
    other = {**TREE, "src/a b.py": Entry(Kind.FILE, bytes(32), 7, False)}
    assert digest_of(manifest(other)) != digest_of(manifest(TREE))
