"""devcontainer.json, as far as it is honoured."""

from __future__ import annotations

import pytest

from remotedl.errors import ConfigError
from remotedl.images.devcontainer import is_devcontainer, parse

NAME = ".devcontainer/devcontainer.json"


def test_an_image_with_ports_and_a_command() -> None:
    found = parse(
        """// a comment
        {
            "name": "x", /* another */
            "image": "org/image:1", // not "a // comment" in a string
            "forwardPorts": [3000, "db:5432",],
            "postCreateCommand": "pip install -e . // kept",
            "features": {"a": {}},
        }""",
        NAME,
    )
    assert found.image == "org/image:1"
    assert found.forward_ports == (3000, 5432)
    assert found.post_create == "pip install -e . // kept"
    assert found.left_out == ("features",)


def test_a_dockerfile_is_relative_to_the_file_that_names_it() -> None:
    found = parse(
        '{"build": {"dockerfile": "Dockerfile", "context": "..", "args": {"A": 1}, "target": "t"}}',
        NAME,
    )
    assert (found.dockerfile, found.context) == (".devcontainer/Dockerfile", ".")
    assert (found.build_args, found.target, found.image) == ({"A": "1"}, "t", "")


def test_the_older_spelling() -> None:
    assert parse('{"dockerFile": "D"}', ".devcontainer.json").dockerfile == "D"


@pytest.mark.parametrize(
    ("given", "shell"),
    [
        ('"make all"', "make all"),
        ('["echo", "a b"]', "echo 'a b'"),
        ('{"one": "a", "two": ["b", "c"]}', "(a) && (b c)"),
        ("null", ""),
    ],
)
def test_the_three_kinds_of_commands(given: str, shell: str) -> None:
    text = f'{{"image": "x", "postCreateCommand": {given}}}'
    assert parse(text, NAME).post_create == shell


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not valid"),
        ("[]", "expected an object"),
        ('{"dockerComposeFile": "c.yml"}', "Docker Compose is not supported"),
        ('{"image": "x", "forwardPorts": ["no"]}', "is no port"),
        ('{"build": {"dockerfile": "../../etc/passwd"}}', "outside the project"),
        ('{"build": "Dockerfile"}', "build is no object"),
        ('{"build": {"dockerfile": "x", "args": ["A=1"]}}', "args is no object"),
        ('{"image": ["x"]}', "image is no text"),
        ('{"image": "Bad Image"}', "no name of an image"),
        ('{"image": "x", "postCreateCommand": 3}', "neither text"),
    ],
)
def test_what_cannot_be_read_is_refused(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as refused:
        parse(text, NAME)
    assert refused.value.hint


def test_how_it_is_asked_for() -> None:
    assert is_devcontainer("devcontainer")
    assert is_devcontainer("sub/devcontainer.json")
    assert not is_devcontainer("org/devcontainer:1")
