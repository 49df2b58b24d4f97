"""By which way a host is reached: hosts.toml and ~/.ssh/config together."""

from __future__ import annotations

import getpass
from pathlib import Path

import pytest

from remotedl.config.models import HostConfig
from remotedl.errors import ConfigError
from remotedl.ssh.route import Hop, plan_route


def route(text: str = "", **host: object) -> tuple[Hop, ...]:
    return plan_route(HostConfig(**host), config_text=text)  # type: ignore[arg-type]


def way(hops: tuple[Hop, ...]) -> list[str]:
    return [hop.shown for hop in hops]


def test_an_address_alone_is_enough() -> None:
    (hop,) = route(address="10.0.0.5")
    assert (hop.address, hop.port, hop.user) == ("10.0.0.5", 22, getpass.getuser())
    assert hop.key_name == "10.0.0.5"
    assert hop.proxy_command is None
    assert not hop.identities_chosen


def test_an_alias_stands_for_what_ssh_config_says() -> None:
    text = "Host box\n HostName 10.0.0.5\n User ada\n Port 2222\n IdentityFile /k\n"
    (hop,) = route(text, address="box")
    assert (hop.alias, hop.shown) == ("box", "ada@10.0.0.5:2222")
    assert hop.key_name == "[10.0.0.5]:2222"
    assert hop.identity_files == (Path("/k"),)
    assert hop.identities_chosen


def test_hosts_toml_wins_over_ssh_config() -> None:
    text = "Host box\n HostName 10.0.0.5\n User ada\n Port 2222\n IdentityFile /k\n"
    (hop,) = route(text, address="box", user="bob", port=22, identity_file="/mine")
    assert hop.shown == "bob@10.0.0.5"
    assert hop.identity_files == (Path("/mine"), Path("/k"))


def test_the_first_value_wins_as_in_openssh() -> None:
    text = "Host b*\n User first\nHost box\n User second\n Port 7\n"
    (hop,) = route(text, address="box")
    assert (hop.user, hop.port) == ("first", 7)


def test_match_blocks_count() -> None:
    text = "Match originalhost box user ada\n Port 2222\nMatch all\n Compression yes\n"
    assert route(text, address="box", user="ada")[0].port == 2222
    assert route(text, address="box", user="bob")[0].port == 22


def test_a_jump_host_is_a_hop_with_its_own_settings() -> None:
    text = "Host gate\n HostName 192.0.2.1\n User guard\nHost box\n ProxyJump gate\n"
    assert way(route(text, address="box", user="ada")) == ["guard@192.0.2.1", "ada@box"]


def test_jump_hosts_are_visited_in_the_order_in_which_they_are_written() -> None:
    hops = route(address="box", user="u", jump="a@one,b@two:2200,c@[::1]:7")
    assert way(hops) == ["a@one", "b@two:2200", "c@[::1]:7", "u@box"]


def test_a_jump_host_may_have_one_of_its_own() -> None:
    text = "Host box\n ProxyJump two\nHost two\n ProxyJump one\nHost *\n User u\n"
    assert way(route(text, address="box")) == ["u@one", "u@two", "u@box"]


def test_what_comes_after_a_hop_is_reached_through_it() -> None:
    """As `ssh -J one,two box`: the block of `two` does not send us elsewhere."""
    text = "Host two\n ProxyJump elsewhere\nHost *\n User u\n"
    assert way(route(text, address="box", jump="one,two")) == ["u@one", "u@two", "u@box"]


def test_hosts_toml_can_switch_a_jump_off() -> None:
    text = "Host box\n ProxyJump gate\n"
    assert len(route(text, address="box", jump="none")) == 1


def test_a_circle_of_jump_hosts_is_an_error() -> None:
    text = "Host a\n ProxyJump b\nHost b\n ProxyJump a\n"
    with pytest.raises(ConfigError, match="a -> b -> a"):
        route(text, address="a")


def test_a_word_that_is_no_jump_host_is_an_error() -> None:
    with pytest.raises(ConfigError, match="a@b@c:x"):
        route("Host box\n ProxyJump a@b@c:x\n", address="box")


def test_a_proxy_command_gets_its_tokens() -> None:
    text = "Host box\n HostName 10.0.0.5\n ProxyCommand nc -x proxy %h %p %r\n"
    (hop,) = route(text, address="box", user="ada", port=2222)
    assert hop.proxy_command == "nc -x proxy 10.0.0.5 2222 ada"
    (hop,) = route("Host box\n ProxyCommand none\n", address="box")
    assert hop.proxy_command is None


@pytest.mark.parametrize(
    ("word", "accept_new", "strict"),
    [("ask", False, False), ("yes", False, True), ("accept-new", True, False), ("no", True, False)],
)
def test_strictness_about_host_keys(word: str, accept_new: bool, strict: bool) -> None:
    (hop,) = route(f"StrictHostKeyChecking {word}\n", address="box")
    assert (hop.trust.accept_new, hop.trust.strict) == (accept_new, strict)


def test_further_settings() -> None:
    text = (
        "IdentitiesOnly yes\nIdentityAgent /a/socket\nHostKeyAlias cluster\nConnectTimeout 3\n"
        "UserKnownHostsFile /one /two\nGlobalKnownHostsFile none\nHashKnownHosts yes\n"
    )
    (hop,) = route(text, address="box", port=2222)
    assert hop.identities_only
    assert hop.agent == "/a/socket"
    assert hop.key_name == "cluster"
    assert hop.connect_timeout_s == 3
    assert hop.trust.user_files == (Path("/one"), Path("/two"))
    assert hop.trust.system_files == ()
    assert hop.trust.hash_names


def test_a_known_hosts_file_of_the_callers_stands_alone() -> None:
    host = HostConfig(address="box")
    (hop,) = plan_route(host, config_text="", known_hosts_file=Path("/mine"))
    assert (*hop.trust.user_files, *hop.trust.system_files) == (Path("/mine"),)


def test_text_that_cannot_be_read_is_an_error() -> None:
    with pytest.raises(ConfigError, match="@@@ has no value"):
        route("@@@\n", address="box")
