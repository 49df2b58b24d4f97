"""The spec: configuration and facts in, the container's create request out."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest

from remotedl.config.models import HostConfig, JupyterConfig, ProjectConfig, TensorBoardConfig
from remotedl.container.gpus import GpuRequest, GpuWay
from remotedl.container.services import Tools
from remotedl.container.spec import (
    LABEL_GPUS,
    LABEL_OWNER,
    LABEL_PROJECT,
    LABEL_SPEC,
    LABEL_TOOLS,
    LABEL_VERSION,
    ContainerSpec,
    Folders,
    Image,
    ProjectName,
    User,
    canonical_json,
    container_spec,
    differences,
    fitted,
    group_file,
    new_container,
    parse_mount,
    parse_size,
    passwd_file,
    spec_hash,
)
from remotedl.engine.containers import container_json
from remotedl.engine.engine import parse_report
from remotedl.engine.types import Container, Health, Mount, NewContainer
from remotedl.errors import ConfigError

PROJECT = ProjectName("0123456789abcdef", "cats")
ADA = User("ada", 1000, 1001, "ada", "/home/ada", ((1001, "ada"), (44, "video")))
FOLDERS = Folders(
    workdir="/home/ada/remotedl/cats-012345",
    data="/home/ada/remotedl/data",
    run="/home/ada/.remotedl/run/0123456789abcdef",
)
IMAGE = Image("remotedl/base:abc", "sha256:1")
HOST = HostConfig(address="h1")


def spec(
    config: ProjectConfig | None = None,
    *,
    host: HostConfig = HOST,
    image: Image = IMAGE,
    user: User = ADA,
    **facts: Any,
) -> ContainerSpec:
    return container_spec(
        project=PROJECT,
        host=host,
        config=config or ProjectConfig(),
        user=user,
        folders=FOLDERS,
        image=image,
        **facts,
    )


# ---------------------------------------------------------------- what is created


def test_runs_as_the_ssh_user_with_a_home_of_its_own() -> None:
    new = new_container(spec(), "1.0")
    assert new.user == "1000:1001"
    assert new.groups == ("44",)
    assert new.env["HOME"] == "/home/ada"
    assert Mount(f"{FOLDERS.run}/home", "/home/ada") in new.mounts


def test_an_engine_without_root_runs_it_as_its_root_which_is_the_ssh_user() -> None:
    rootless = spec(ProjectConfig(mounts=("~/big:/big",)), rootless=True)
    new = new_container(rootless, "1.0")
    assert (new.user, new.groups, new.env["HOME"]) == ("0:0", (), "/home/root")
    assert Mount(f"{FOLDERS.run}/home", "/home/root") in new.mounts
    assert Mount("/home/ada/big", "/big") in new.mounts, "the host's home is still the user's"
    assert new.labels[LABEL_OWNER] == "ada"
    passwd = passwd_file("root:x:0:0:root:/root:/bin/sh\n", rootless.inner, rootless.home)
    assert passwd == "root:x:0:0:root:/home/root:/bin/bash\n"
    assert spec_hash(rootless) != spec_hash(spec(ProjectConfig(mounts=("~/big:/big",))))


def test_nothing_is_published() -> None:
    assert new_container(spec(ProjectConfig(ports=("7860", "9000:9100"))), "1.0").ports == ()


def test_another_port_is_no_other_container() -> None:
    """Doors are opened and closed while it runs."""
    assert spec_hash(spec(ProjectConfig(ports=("7860",)))) == spec_hash(spec())


def test_a_network_is_how_and_not_what() -> None:
    assert new_container(spec().on_network("remotedl-1000"), "1.0").network == "remotedl-1000"
    assert spec_hash(spec().on_network("remotedl-1000")) == spec_hash(spec())


def test_an_images_volumes_get_names_that_outlive_the_container() -> None:
    image = Image("mine:1", "sha256:1", volumes=("/data", "/models/weights", "/srv/big/"))
    config = ProjectConfig(mounts=("~/big:/srv/big",))
    volumes = [one for one in new_container(spec(config, image=image), "1").mounts if one.volume]
    assert [one.target for one in volumes] == ["/models/weights"], "a mount of ours takes its place"
    newer = Image("mine:2", "sha256:2", volumes=("/models/weights",))
    assert volumes == [one for one in new_container(spec(image=newer), "1").mounts if one.volume]
    assert volumes[0].source.startswith("remotedl-")
    assert spec_hash(spec(image=image)) != spec_hash(spec(image=Image("mine:1", "sha256:1")))


def test_services_that_are_off_are_not_asked_how_they_are() -> None:
    config = ProjectConfig(
        jupyter=JupyterConfig(enabled=False), tensorboard=TensorBoardConfig(enabled=False)
    )
    new = new_container(spec(config), "1.0")
    assert new.healthcheck is None


def test_the_projects_folders_are_mounted() -> None:
    mounted = {mount.target: mount.source for mount in new_container(spec(), "1.0").mounts}
    assert mounted["/workspace"] == FOLDERS.workdir
    assert mounted["/data"] == FOLDERS.data
    assert mounted["/run/remotedl"] == FOLDERS.run


def test_init_restart_shared_memory_and_limits() -> None:
    new = new_container(spec(ProjectConfig(cpus=1.5, memory="2g")), "1.0")
    assert new.init
    assert new.restart == "unless-stopped"
    assert new.shm_size == 8 * 2**30
    assert (new.cpus, new.memory) == (1.5, 2 * 2**30)
    limits = {limit.name: (limit.soft, limit.hard) for limit in new.ulimits}
    assert limits["nofile"] == (1_048_576, 1_048_576)
    assert limits["memlock"] == (-1, -1)


def test_the_hosts_own_shared_memory() -> None:
    new = new_container(spec(ProjectConfig(shm_size="host")), "1.0")
    assert (new.ipc, new.shm_size) == ("host", 0)


def test_the_images_entrypoint_is_not_run() -> None:
    new = new_container(spec(), "1.0")
    assert new.entrypoint == ("supervisord",)
    assert new.command is not None
    assert new.command[-1] == "/run/remotedl/services.conf"


def test_a_jupyter_of_our_own_is_found_by_its_folder() -> None:
    new = new_container(spec(image=Image("org/x:1", "sha256:2", Tools("/opt/remotedl/bin"))), "1.0")
    assert new.entrypoint == ("/opt/remotedl/bin/supervisord",)
    assert new.healthcheck is not None
    assert new.healthcheck.test[0] == "/opt/remotedl/bin/python3"
    assert new.labels[LABEL_TOOLS] == "/opt/remotedl/bin"


def test_the_projects_environment_and_the_time_zone() -> None:
    new = new_container(spec(ProjectConfig(env={"SEED": "7"}), time_zone="Europe/Vienna"), "1.0")
    assert new.env["SEED"] == "7"
    assert new.env["TZ"] == "Europe/Vienna"


def test_labels_testify() -> None:
    labels = new_container(spec(), "1.0").labels
    assert labels[LABEL_PROJECT] == PROJECT.id
    assert labels[LABEL_OWNER] == "ada"
    assert labels[LABEL_VERSION] == "1.0"
    assert re.fullmatch(r"[0-9a-f]{64}", labels[LABEL_SPEC])
    assert LABEL_GPUS not in labels
    some = GpuRequest(GpuWay.RUNTIME, ("0", "3"), runtime="nvidia")
    assert new_container(spec(gpus=some), "1.0").labels[LABEL_GPUS] == "0,3"


@pytest.mark.parametrize(
    ("slug", "name"),
    [("cats", "remotedl-cats-012345"), ("Über Cats!", "remotedl-ber-cats-012345"), ("…", None)],
)
def test_names_are_fit_for_the_engine(slug: str, name: str | None) -> None:
    assert ProjectName(PROJECT.id, slug).container_name == (name or "remotedl-project-012345")


# ---------------------------------------------------------------- the hash


def test_the_hash_is_of_values_and_not_of_their_order() -> None:
    one = ProjectConfig(env={"A": "1", "B": "2"}, mounts=("/a:/a", "/b:/b"))
    other = ProjectConfig(env={"B": "2", "A": "1"}, mounts=("/b:/b", "/a:/a"))
    assert spec_hash(spec(one)) == spec_hash(spec(other))
    assert canonical_json({"b": 1, "a": "ü"}) == '{"a":"ü","b":1}'.encode()


@pytest.mark.parametrize(
    "config",
    [
        ProjectConfig(env={"A": "1"}),
        ProjectConfig(shm_size="4g"),
        ProjectConfig(mounts=("/mnt/x:/x",)),
        ProjectConfig(cpus=2.0),
        ProjectConfig(memory="8g"),
        ProjectConfig(jupyter=JupyterConfig(enabled=False)),
    ],
    ids=["env", "shm", "mount", "cpus", "memory", "jupyter off"],
)
def test_what_was_asked_for_changes_the_hash(config: ProjectConfig) -> None:
    assert spec_hash(spec(config)) != spec_hash(spec())


def test_a_rebuilt_image_changes_the_hash() -> None:
    rebuilt = dataclasses.replace(IMAGE, id="sha256:2")
    assert spec_hash(spec(image=rebuilt)) != spec_hash(spec())


def test_another_idle_gpu_is_the_same_container() -> None:
    host = HostConfig(address="h1", gpus="auto:1")

    def picked(index: str) -> ContainerSpec:
        env = {"NVIDIA_VISIBLE_DEVICES": index}
        return spec(host=host, gpus=GpuRequest(GpuWay.RUNTIME, (index,), env=env, runtime="nvidia"))

    assert new_container(picked("0"), "1").env != new_container(picked("1"), "1").env
    assert spec_hash(picked("0")) == spec_hash(picked("1"))


def test_limits_that_an_engine_refuses_and_our_version_are_not_in_the_hash() -> None:
    wanted = spec()
    assert spec_hash(wanted.without_ulimits()) == spec_hash(wanted)
    old, new = new_container(wanted, "1.0").labels, new_container(wanted, "2.0").labels
    assert old[LABEL_SPEC] == new[LABEL_SPEC]


def test_the_port_on_the_laptop_is_not_the_containers_business() -> None:
    assert spec_hash(spec(ProjectConfig(jupyter=JupyterConfig(port=9999)))) == spec_hash(spec())


def test_differences_are_told_in_words() -> None:
    changed = spec(
        ProjectConfig(env={"SEED": "7"}, mounts=("/mnt/x:/x",)),
        image=dataclasses.replace(IMAGE, id="sha256:2"),
    )
    assert differences(_as_it_is(spec()), changed) == [
        "image: remotedl/base:abc is another one now",
        "mount: /mnt/x:/x",
        "env: SEED",
    ]
    assert differences(_as_it_is(spec()), spec(ProjectConfig(cpus=2.0))) == [
        "its settings (GPUs, limits, network)"
    ]


# ---------------------------------------------------------------- sizes, mounts, identity


@pytest.mark.parametrize(
    ("text", "size"),
    [("8g", 8 << 30), ("512m", 512 << 20), ("1.5 GiB", 3 << 29), ("64MB", 64 << 20), ("7", 7)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text, "shm_size") == size


@pytest.mark.parametrize("text", ["", "much", "0g", "-1g", "8 parsecs"])
def test_no_size(text: str) -> None:
    with pytest.raises(ConfigError, match="shm_size"):
        parse_size(text, "shm_size")


@pytest.mark.parametrize(
    ("text", "mount"),
    [
        ("/mnt/x:/x", Mount("/mnt/x", "/x")),
        ("/mnt/x/:/x/:ro", Mount("/mnt/x", "/x", read_only=True)),
        ("~/sets:/sets:rw", Mount("/home/ada/sets", "/sets")),
    ],
)
def test_mounts(text: str, mount: Mount) -> None:
    assert parse_mount(text, "/home/ada") == mount


@pytest.mark.parametrize("text", ["/x", "x:/x", "/x:y", "/x:/y:rwx", "/x:/", ":/x", "/a:/b:/c:ro"])
def test_no_mount(text: str) -> None:
    with pytest.raises(ConfigError, match="mount"):
        parse_mount(text, "/home/ada")


def test_two_mounts_on_one_path_are_refused() -> None:
    with pytest.raises(ConfigError, match="/workspace is taken already"):
        spec(ProjectConfig(mounts=("/mnt/x:/workspace",)))


def test_the_ssh_user_has_a_name_beside_the_images_users() -> None:
    base = "root:x:0:0:root:/root:/bin/bash\njovyan:x:1000:100::/home/jovyan:/bin/bash\n"
    assert passwd_file(base, ADA, "/home/ada") == (
        "root:x:0:0:root:/root:/bin/bash\nada:x:1000:1001:ada:/home/ada:/bin/bash\n"
    )


def test_groups_that_the_image_knows_keep_its_names() -> None:
    assert group_file("root:x:0:\ncamera:x:44:\nada:x:7:\n", ADA) == (
        "root:x:0:\ncamera:x:44:\nada:x:1001:\n"
    )


def _as_it_is(made: ContainerSpec) -> Container:
    """The container that the engine would report for a spec."""
    new = new_container(made, "1.0")
    return Container(
        id="c1",
        name=new.name,
        image=new.image,
        image_id=made.image.id,
        labels=new.labels,
        status="running",
        running=True,
        exit_code=0,
        error="",
        oom_killed=False,
        health=Health.HEALTHY,
        restart_count=0,
        started_at="",
        pid=1,
        ports=(),
        mounts=new.mounts,
        address="",
        user=new.user,
        env=new.env,
        runtime="",
    )


@pytest.mark.parametrize(("options", "userns", "security"), [
    ((), "", ()),
    (("name=userns",), "host", ()),
    (("name=selinux",), "", ("label=disable",)),
    (("name=seccomp,profile=builtin", "name=userns", "name=selinux"), "host", ("label=disable",)),
])  # fmt: skip
def test_an_engine_that_maps_users_or_labels_files_is_told_to_leave_ours(
    options: tuple[str, ...], userns: str, security: tuple[str, ...]
) -> None:
    report = parse_report({"SecurityOptions": list(options)}, {})

    new = fitted(NewContainer(image="x"), report)

    assert (new.userns, new.security) == (userns, security)
    host = container_json(new)["HostConfig"]
    assert (host["UsernsMode"], host["SecurityOpt"]) == (userns, list(security))
