"""Secrets are asked for once; what the keyring knows is not asked at all."""

from __future__ import annotations

import pytest

from remotedl.session import keyring
from remotedl.session.prompting import RememberingPrompt

ASKED = "Password of ada@box: "
AGAIN = "That was not it. sudo password of ada on box: "


class Person:
    """Types the next word each time."""

    def __init__(self, *words: str) -> None:
        self.words = list(words)
        self.questions: list[str] = []

    def secret(self, question: str) -> str | None:
        self.questions.append(question)
        return self.words.pop(0) if self.words else None

    def confirm(self, question: str) -> bool:
        return False


def test_a_second_connection_does_not_ask_again() -> None:
    person = Person("secret")
    prompt = RememberingPrompt(person, lambda key: None)
    assert prompt.secret(ASKED) == "secret"
    prompt.begin()
    assert prompt.secret(ASKED) == "secret"
    assert person.questions == [ASKED]


def test_what_was_wrong_is_asked_for_again_and_then_known() -> None:
    person = Person("slip", "right")
    prompt = RememberingPrompt(person, lambda key: None)
    assert prompt.secret("sudo password of ada on box: ") == "slip"
    assert prompt.secret(AGAIN) == "right"
    prompt.begin()
    assert prompt.secret("sudo password of ada on box: ") == "right"
    assert len(person.questions) == 2


def test_the_keyring_is_asked_before_the_person() -> None:
    person = Person("typed")
    prompt = RememberingPrompt(person, {ASKED: "kept"}.get)
    assert prompt.secret(ASKED) == "kept"
    assert person.questions == []


def test_a_wrong_entry_of_the_keyring_makes_way_for_the_person() -> None:
    person = Person("typed")
    prompt = RememberingPrompt(person, {ASKED: "stale"}.get)
    assert [prompt.secret(ASKED), prompt.secret(ASKED)] == ["stale", "typed"]
    prompt.begin()
    assert prompt.secret(ASKED) == "typed"


def test_an_entry_is_found_by_the_words_of_the_question() -> None:
    library = pytest.importorskip("keyring")
    backend = pytest.importorskip("keyring.backend")

    class InMemory(backend.KeyringBackend):  # type: ignore[name-defined,misc]
        """A keyring of this test's own, behind the real library."""

        priority = 1

        def get_password(self, service: str, username: str) -> str | None:
            return {("remotedl", "Password of ada@box"): "kept"}.get((service, username))

        def set_password(self, service: str, username: str, password: str) -> None:
            raise AssertionError("remotedl writes nothing into a keyring")

    before = library.get_keyring()
    library.set_keyring(InMemory())
    try:
        assert keyring.look_up(ASKED) == "kept"
        assert keyring.look_up("Password of bob@box: ") is None
    finally:
        library.set_keyring(before)


def test_a_broken_keyring_knows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    library = pytest.importorskip("keyring")

    def broken(service: str, username: str) -> str:
        raise RuntimeError("the keyring is locked")

    monkeypatch.setattr(library, "get_password", broken)
    assert keyring.look_up(ASKED) is None
