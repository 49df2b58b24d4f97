"""hosts.toml: what is accepted, and that an error names file, line, key and the way on."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from remotedl.config.load import choose_host, find_config, line_of, load_config
from remotedl.config.models import Config, HostConfig, ProjectConfig
from remotedl.errors import ConfigError, ConfigNotFound

EXAMPLE = Path(__file__).parents[3] / "hosts.example.toml"


def write(folder: Path, text: str) -> Path:
    path = folder / "hosts.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        (
            '[project]\nimag = "base"',
            2,
            "project.imag: unknown key; the nearest valid one is image",
        ),
        (
            '[hosts."a.b"]\nadress = "x"',
            2,
            "hosts.a.b.adress: unknown key; the nearest valid one is address",
        ),
        ("[hosts.a]\nuser = 'u'", 1, "hosts.a.address: is missing"),
        ('[hosts.a]\naddress = "x"\nport = 99999', 3, "expected less than or equal to 65535"),
        ('[hosts.a]\naddress = "x"\ngpus = "auto:x"', 3, '"auto:N"'),
        ('[hosts.a]\naddress = "x"\ngpus = true', 3, '"auto:N"'),
        ('[hosts.a]\naddress = "x"\ngpus = 0', 3, 'for no GPU write "none"'),
        ('[hosts.a]\naddress = "x"\nruntime = "podman"', 3, "expected 'docker' or 'native'"),
        ('[project]\nimage = { dockerfil = "x" }', 2, "the nearest valid one is dockerfile"),
        ("[project]\nimage = 5", 2, "project.image = 5: expected a name of"),
        ('[project]\nimage = "base:"', 2, "project.image = 'base:': expected a name of"),
        ('[project]\nimage = ""', 2, "expected a name of"),
        ('[project]\nimage = "Org/Name"', 2, "in small letters"),
        ('[project]\nports = ["1:x"]', 2, 'not "1:x"'),
        ('[project.sync]\nmode = "x"', 2, "'two-way-safe', 'laptop-wins' or 'upload-only'"),
        ('default_host = "b"\n[hosts.a]\naddress = "x"', 1, "names no host; there are: a"),
    ],
)
def test_error_names_file_line_and_key(tmp_path: Path, text: str, line: int, says: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert caught.value.message.startswith(f"{path}:{line}: ")
    assert says in caught.value.message
    assert str(path) in caught.value.hint


def test_broken_toml_is_a_config_error_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="line 1"):
        load_config(write(tmp_path, "[hosts.a\n"))


def test_example_shows_every_key_with_its_default() -> None:
    config = load_config(EXAMPLE)
    assert config.project == ProjectConfig()
    assert config.hosts["mybox"] == HostConfig(address="192.0.2.10")
    text = EXAMPLE.read_text()
    for model in (Config, HostConfig, ProjectConfig):
        for key in model.model_fields:
            assert key in text, f"hosts.example.toml does not show {key}"


def test_example_holds_when_every_commented_key_is_put_in(tmp_path: Path) -> None:
    lines = []
    for line in EXAMPLE.read_text().splitlines():
        commented = line.startswith("# ") and " = " in line
        lines.append(line[2:] if commented else line)
    text = "\n".join(lines)
    tomllib.loads(text)
    assert load_config(write(tmp_path, text)).hosts["mybox"].user == "ada"


def test_config_is_found_here_then_above_then_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own"
    monkeypatch.setenv("REMOTEDL_CONFIG", str(own))
    deep = tmp_path / "project" / "src"
    deep.mkdir(parents=True)
    assert find_config(deep) is None
    own.mkdir()
    assert find_config(deep) is None
    (own / "hosts.toml").touch()
    assert find_config(deep) == own / "hosts.toml"
    (deep.parent / "hosts.toml").touch()
    assert find_config(deep) == deep.parent / "hosts.toml"
    with pytest.raises(ConfigNotFound):
        find_config(deep, tmp_path / "absent.toml")


def test_host_may_be_left_out_where_there_is_one_or_a_default() -> None:
    one = Config(hosts={"a": HostConfig(address="x")})
    assert choose_host(one, None)[0] == "a"
    two = Config(default_host="b", hosts={n: HostConfig(address=n) for n in "ab"})
    assert choose_host(two, None)[0] == "b"
    with pytest.raises(ConfigNotFound, match="which host"):
        choose_host(Config(hosts=two.hosts), None)


def test_an_address_needs_no_hosts_toml() -> None:
    name, host = choose_host(Config(), "ada@box.example.org")
    assert (name, host.user, host.address) == ("ada@box.example.org", "ada", "box.example.org")


def test_an_unknown_host_far_from_all_is_added_or_begun_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ConfigNotFound, match="there are: gpubox") as caught:
        choose_host(Config(hosts={"gpubox": HostConfig(address="x")}), "ada")
    assert "[hosts.ada]" in (caught.value.hint or "")
    with pytest.raises(ConfigNotFound) as caught:
        choose_host(Config(), "ada")
    assert caught.value.hint == "remotedl init"


def test_unknown_host_names_the_nearest() -> None:
    config = Config(hosts={"gpubox": HostConfig(address="x")})
    with pytest.raises(ConfigNotFound, match="did you mean gpubox") as caught:
        choose_host(config, "gpubx")
    assert caught.value.hint == "remotedl up gpubox"


def test_line_of_finds_inline_and_dotted_keys() -> None:
    text = "a.b = 1\n[x]\ny = 2\n[x.z]\nw = 3\n"
    assert line_of(text, ("a", "b")) == 1
    assert line_of(text, ("x", "z", "w")) == 5
    assert line_of(text, ("x", "absent")) == 2


@pytest.mark.parametrize(
    "name",
    [
        "base",
        "base:cpu",
        "org/name",
        "org/na__me-x.y:1.0_b",
        "registry.example:5000/a/b:tag",
        "Registry.Example/a",
        "[::1]:5000/a",
        "nvidia/cuda:12.6.3-runtime@sha256:" + "0" * 64,
        "sha256:" + "0" * 64,
        "devcontainer",
        ".devcontainer/gpu/devcontainer.json",
    ],
)
def test_names_of_images(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, f'[hosts.a]\naddress = "x"\n[project]\nimage = "{name}"')

    assert load_config(path).project.image == name
