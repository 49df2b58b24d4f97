"""Which files of the laptop a project's hosts.toml may name: its own, and what the user allows."""

from __future__ import annotations

from pathlib import Path

import pytest

from remotedl.config.models import Config, HostConfig
from remotedl.config.places import Places, own_file, places_of
from remotedl.errors import ConfigError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    (folder / ".ssh").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("REMOTEDL_CONFIG", str(folder / ".config"))
    monkeypatch.setenv("REMOTEDL_STATE", str(folder / "state"))
    return folder


@pytest.fixture
def places(tmp_path: Path) -> Places:
    root = tmp_path / "project"
    root.mkdir()
    (root / "hosts.toml").write_text('[project]\nimage = "base"\nenv_file = "x"\n')
    return Places(root, root / "hosts.toml")


def test_what_lies_in_the_project_may_be_named(places: Places) -> None:
    (places.root / "sub").mkdir()
    assert places.find("project.env_file", "sub/../.env") == places.root / ".env"
    (places.root / "link").symlink_to(places.root / "sub")
    assert places.find("project.env_file", "link/a") == places.root / "link" / "a"


@pytest.mark.parametrize("name", ["~/.aws/credentials", "../other.env", "/etc/passwd", "out/x"])
def test_what_lies_outside_is_refused_with_the_key_that_allows_it(
    places: Places, home: Path, name: str
) -> None:
    (places.root / "out").symlink_to(home)
    with pytest.raises(ConfigError) as caught:
        places.find("project.env_file", name)
    assert caught.value.message.startswith(f"{places.root}/hosts.toml:3: project.env_file = ")
    real = (places.root / Path(name).expanduser()).resolve()
    assert str(own_file()) in caught.value.hint
    assert f'allow_files = ["{real}"]' in caught.value.hint
    own_file().parent.mkdir(exist_ok=True)
    own_file().write_text(caught.value.hint.partition(": ")[2])
    assert places.find("project.env_file", name).resolve() == real


def test_the_users_own_file_names_what_it_likes_but_no_link_out_of_the_project(
    places: Places, home: Path
) -> None:
    own = Places(places.root, home / ".config" / "hosts.toml")
    assert own.find("project.env_file", "~/other.env") == home / "other.env"
    (places.root / "planted").symlink_to(home / ".ssh" / "id_ed25519")
    with pytest.raises(ConfigError, match="outside of the project"):
        own.find("project.env_file", "planted")


@pytest.mark.parametrize("key", ["allow_files", "allow_lan"])
def test_a_project_cannot_allow_itself(places: Places, key: str) -> None:
    assert places.config_path is not None
    allowing = Config.model_validate({key: ("x",)})
    with pytest.raises(ConfigError, match="counts in your own file alone"):
        places_of(places.root, places.config_path, allowing)
    places_of(places.root, own_file(), allowing)


def test_keys_are_where_ssh_has_them_or_are_looked_at_as_well(places: Places, home: Path) -> None:
    def with_key(name: str) -> HostConfig:
        return places.host_with_files("a", HostConfig(address="x", identity_file=name))

    assert with_key("~/.ssh/id_ed25519").identity_file == "~/.ssh/id_ed25519"
    assert with_key("keys/lab").identity_file == str(places.root / "keys" / "lab")
    for outside in ("~/.ssh/../.aws/credentials", "/etc/ssh/key"):
        with pytest.raises(ConfigError, match=r"hosts\.a\.identity_file"):
            with_key(outside)


def test_a_loop_of_links_is_an_error(places: Places) -> None:
    (places.root / "a").symlink_to("a")
    try:
        found = places.find("project.env_file", "a")
    except ConfigError:
        return
    assert not found.exists()
