"""The services' configuration, and how the ground is read."""

from __future__ import annotations

import configparser
import json
import re

import pytest

from remotedl.config.models import JupyterConfig, ProjectConfig, TensorBoardConfig
from remotedl.container.autostop import parse_duration
from remotedl.container.ground import parse_survey
from remotedl.container.services import (
    ON_PATH,
    Service,
    Tools,
    Where,
    door_ports,
    services,
    services_json,
    supervisord_conf,
)
from remotedl.errors import ConfigError, StateCorrupt

INSIDE = Where("/workspace", "/run/remotedl")
NATIVE = Where("/home/ada/cats", "/home/ada/.remotedl/run/1", shared=True)
TOKEN = "ab" * 32


def named(found: list[Service], name: str) -> Service:
    return next(service for service in found if service.name == name)


def test_jupyter_is_a_socket_of_its_user_and_takes_its_token_from_a_file() -> None:
    jupyter = named(services(ProjectConfig(), INSIDE, ON_PATH, root=False), "jupyter")
    assert "--ServerApp.sock={sockets}/8888" in jupyter.argv
    assert "--ServerApp.sock_mode=0600" in jupyter.argv
    assert "--ServerApp.root_dir=/workspace" in jupyter.argv
    assert jupyter.env == {"JUPYTER_TOKEN_FILE": "/run/remotedl/token"}
    assert not any("token" in part.lower() for part in jupyter.argv)


def test_root_is_allowed_only_where_the_user_is_root() -> None:
    root, other = (services(ProjectConfig(), INSIDE, ON_PATH, root=one) for one in (True, False))
    assert "--allow-root" in named(root, "jupyter").argv
    assert "--allow-root" not in named(other, "jupyter").argv


@pytest.mark.parametrize("where", [INSIDE, NATIVE], ids=["container", "native"])
def test_no_service_listens_on_a_port(where: Where) -> None:
    """What could: an option that names an address or a port."""
    for service in services(ProjectConfig(ports=("7860",)), where, ON_PATH, root=False):
        assert "{sockets}" in " ".join(service.argv)
        assert not [part for part in service.argv if re.search(r"ip=|host|port|bind", part)]


def test_natively_tensorboard_has_no_data_server_on_a_port() -> None:
    inside, native = (
        named(services(ProjectConfig(), where, ON_PATH, root=False), "tensorboard").argv
        for where in (INSIDE, NATIVE)
    )
    assert "--load_fast=false" in native
    assert "--load_fast=false" not in inside


def test_ports_of_programs_get_a_door_each_and_change_no_service() -> None:
    config = ProjectConfig(ports=("7860", "9000:9100", "8888"))
    found = services(config, INSIDE, ON_PATH, root=False)
    assert door_ports(config, found) == (7860, 9100), "Jupyter has its own socket"
    assert services_json(found) == services_json(
        services(ProjectConfig(), INSIDE, ON_PATH, root=False)
    )


def test_tensorboard_reads_the_projects_log_folder() -> None:
    config = ProjectConfig(tensorboard=TensorBoardConfig(logdir="logs/today"))
    board = named(services(config, INSIDE, ON_PATH, root=False), "tensorboard")
    assert "--logdir=/workspace/logs/today" in board.argv


def test_services_can_be_off() -> None:
    config = ProjectConfig(
        jupyter=JupyterConfig(enabled=False), tensorboard=TensorBoardConfig(enabled=False)
    )
    assert [one.name for one in services(config, INSIDE, ON_PATH, root=False)] == ["door"]


def test_tools_of_their_own_folder() -> None:
    found = services(ProjectConfig(), INSIDE, Tools("/opt/remotedl/bin"), root=False)
    assert [service.argv[0] for service in found] == [
        "/opt/remotedl/bin/python3",
        "/opt/remotedl/bin/jupyter-lab",
        "/opt/remotedl/bin/python3",
    ]


def test_the_supervisor_restarts_both_for_ever_and_keeps_their_logs() -> None:
    found = services(ProjectConfig(), INSIDE, ON_PATH, root=False)
    parsed = configparser.RawConfigParser()
    parsed.read_string(supervisord_conf(found, ON_PATH).decode())
    for name in ("door", "jupyter", "tensorboard"):
        program = parsed[f"program:{name}"]
        assert program["autorestart"] == "true"
        assert program.getint("startretries") == 1_000_000
        assert program["stdout_logfile"] == f"%(here)s/logs/{name}.log"
        assert program["stdout_logfile_maxbytes"] == "10MB"


def test_no_text_of_the_users_is_in_the_supervisors_configuration() -> None:
    odd = Where("/home/o'dd; rm/100% [x]", "/home/o'dd/.remotedl", shared=True)
    config = ProjectConfig(tensorboard=TensorBoardConfig(logdir="a b;c"))
    found = services(config, odd, ON_PATH, root=False)
    plain = services(ProjectConfig(), INSIDE, ON_PATH, root=False)
    assert supervisord_conf(found, ON_PATH) == supervisord_conf(plain, ON_PATH)
    assert json.loads(services_json(found))["tensorboard"]["cwd"] == odd.workspace


# ---------------------------------------------------------------- the ground

SURVEYED = f"""\
home=/home/ada
run=/home/ada/.remotedl/run/1
work=/srv/a=b
data=/home/ada/remotedl/data
name=ada
uid=1000
gid=1001
group=ada
gids=1001 44
groups=ada video
zone=Europe/Vienna
token={TOKEN}
stamp={{}}
watched=
"""


def test_a_survey_is_read() -> None:
    ground = parse_survey(SURVEYED)
    assert (ground.user.name, ground.user.uid, ground.user.gid) == ("ada", 1000, 1001)
    assert ground.user.groups == ((1001, "ada"), (44, "video"))
    assert ground.folders.workdir == "/srv/a=b"
    assert (ground.token, ground.time_zone) == (TOKEN, "Europe/Vienna")


def test_group_names_with_spaces_are_left_to_their_numbers() -> None:
    ground = parse_survey(SURVEYED.replace("groups=ada video", "groups=domain users video"))
    assert ground.user.groups == ((1001, "g1001"), (44, "g44"))


def test_a_damaged_token_is_no_missing_token() -> None:
    assert parse_survey(SURVEYED.replace(TOKEN, "")).token is None
    with pytest.raises(StateCorrupt, match="token"):
        parse_survey(SURVEYED.replace(TOKEN, TOKEN[:10]))


def test_services_that_an_image_brings_along_are_supervised_too() -> None:
    conf = supervisord_conf([], Tools("/opt/remotedl/bin")).decode()
    assert "files=/opt/remotedl/bin/../etc/services/*.conf" in conf
    assert "[include]" not in supervisord_conf([], ON_PATH).decode()


@pytest.mark.parametrize(
    ("text", "seconds"), [("90m", 5400), ("2h", 7200), ("1h30m", 5400), ("5s", 5)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text, "autostop") == seconds


@pytest.mark.parametrize("text", ["", "0h", "2", "soon", "-1h", "2d"])
def test_no_duration(text: str) -> None:
    with pytest.raises(ConfigError, match="autostop"):
        parse_duration(text, "autostop")
