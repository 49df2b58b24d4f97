"""hosts.toml: what reaches ssh, git, a shell or a unit file stays one value."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from remotedl.config.load import choose_host, load_config
from remotedl.config.models import Config, HostConfig, ProjectConfig
from remotedl.errors import ConfigError, ConfigNotFound


def load(folder: Path, text: str) -> Config:
    path = folder / "hosts.toml"
    path.write_text(text, encoding="utf-8")
    return load_config(path)


HOST_KEYS = ("address", "user", "identity_file", "known_hosts", "jump", "workdir", "data", "proxy")
PROJECT_KEYS = ("requirements", "env_file", "shm_size", "memory", "autostop")


@pytest.mark.parametrize(
    "bad", ["x\nProxyCommand touch /tmp/x #", "x\r", "\x1b]52;c;x\a", "x\u202ey"]
)
@pytest.mark.parametrize("key", [*HOST_KEYS, *PROJECT_KEYS])
def test_no_value_holds_what_people_do_not_see(tmp_path: Path, key: str, bad: str) -> None:
    table = "hosts.a" if key in HOST_KEYS else "project"
    address = "" if key == "address" or table == "project" else 'address = "x"\n'
    value = json.dumps(bad).replace("\\u202e", "\u202e")
    with pytest.raises(ConfigError, match="without control characters") as caught:
        load(tmp_path, f"[{table}]\n{address}{key} = {value}\n")
    line = 3 if address else 2
    assert caught.value.message.startswith(f"{tmp_path}/hosts.toml:{line}: {table}.{key}")
    assert caught.value.message.isprintable()


@pytest.mark.parametrize("key", ["mounts", "ports"])
def test_nor_do_the_items_of_lists(tmp_path: Path, key: str) -> None:
    with pytest.raises(ConfigError, match="without control characters"):
        load(tmp_path, f'[project]\n{key} = ["/a:/b\\u001b[2J"]\n')
    with pytest.raises(ConfigError, match="without control characters"):
        load(tmp_path, '[project.sync]\nignore = ["a\\n!.git/"]\n')


@pytest.mark.parametrize("key", [key for key in HOST_KEYS if key != "proxy"])
def test_no_value_is_taken_for_an_option(tmp_path: Path, key: str) -> None:
    address = "" if key == "address" else 'address = "x"\n'
    with pytest.raises(ConfigError, match=f"hosts.a.{key} = '-oProxyCommand=x': expected"):
        load(tmp_path, f'[hosts.a]\n{address}{key} = "-oProxyCommand=x"\n')


@pytest.mark.parametrize(
    "address", ["$(id)", "`id`", "a b", "a;b", "a|b", "a&b", "a'b", 'a"b', "<a", "", "-a", "a\\b"]
)
def test_an_address_is_one_that_ssh_itself_takes(tmp_path: Path, address: str) -> None:
    with pytest.raises(ConfigError, match="expected a name or an address"):
        load(tmp_path, f"[hosts.a]\naddress = {json.dumps(address)}\n")
    with pytest.raises(ConfigError):
        load(tmp_path, f'[hosts.a]\naddress = "x"\njump = {json.dumps("gate," + address)}\n')
    with pytest.raises(ConfigNotFound):
        choose_host(Config(), f"ada@{address}")


@pytest.mark.parametrize("user", ["$(id)", "`id`", "a;b", "-l", "a -o", "a\\", "a'", ""])
def test_a_user_is_one_that_ssh_itself_takes(tmp_path: Path, user: str) -> None:
    with pytest.raises(ConfigError, match="expected the name of a user"):
        load(tmp_path, f'[hosts.a]\naddress = "x"\nuser = {json.dumps(user)}\n')


def test_usual_values_are_taken() -> None:
    host = HostConfig(
        address="fe80::1%eth0",
        user="CORP\\ada",
        jump="ada@gate:2222,[::1]:22,ssh://bob@corp@x.example.org",
        identity_file="~/My Keys/é",
        proxy="http://user:p%40ss@proxy.example:3128",
    )
    assert (host.user, host.address) == ("CORP\\ada", "fe80::1%eth0")
    assert HostConfig(address="x", user="ada lovelace", jump="none").jump == "none"
    many_lines = "-----BEGIN\n\tx\n"
    assert ProjectConfig(env={"KEY": many_lines}).env["KEY"] == many_lines


@pytest.mark.parametrize("proxy", ["ftp://x", "x:3128", "http://", "http://a b", "http://x:0"])
def test_a_proxy_is_an_address_of_the_web(tmp_path: Path, proxy: str) -> None:
    with pytest.raises(ConfigError, match="http://") as caught:
        load(tmp_path, f'[hosts.a]\naddress = "x"\nproxy = "{proxy}"\n')
    assert f"= '{proxy}'" not in caught.value.message, "it may hold a password"


@pytest.mark.parametrize(
    "text",
    [
        '[project.env]\nTOKEN = "hush-1"\n"BAD NAME" = "hush-2"\n',
        '[project.env]\nTOKEN = "hush-1"\nOTHER = "hush\\u001b"\n',
        '[project.env]\nTOKEN = "hush-1"\nOTHER = { x = "hush-2" }\n',
        '[project]\nenv = { TOKEN = "hush-1" }\njupyter = { port = 6006 }\n',
        '[project]\nenv = "TOKEN=hush-1"\n',
        '[hosts.a]\naddress = "x"\n[hosts.a.mirrors]\npip = "hush"\n',
    ],
)
def test_an_error_shows_no_secret_that_stands_nearby(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert "hush" not in caught.value.message
    assert "expected" in caught.value.message


def test_a_bad_entry_of_env_is_named_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"hosts.toml:3: project.env.OTHER: expected"):
        load(tmp_path, '[project.env]\nTOKEN = "a"\nOTHER = "b\\u001b"\n')
