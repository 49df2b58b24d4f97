"""The engine's answers as our values, and our values as its questions."""

from __future__ import annotations

import struct

from remotedl.engine import (
    DeviceRequest,
    Health,
    Healthcheck,
    Mount,
    NewContainer,
    PortRequest,
    PublishedPort,
    Ulimit,
)
from remotedl.engine.containers import container_json, parse_container, unframed
from remotedl.engine.engine import parse_report
from remotedl.engine.images import parse_image, split_reference

OLD = {
    "ServerVersion": "20.10.24+dfsg1",
    "Architecture": "x86_64",
    "Runtimes": {"runc": {}, "nvidia": {}},
    "DefaultRuntime": "runc",
    "CgroupDriver": "cgroupfs",
    "CgroupVersion": "1",
    "DockerRootDir": "/var/lib/docker",
    "Driver": "overlay2",
    "DriverStatus": [["Backing Filesystem", "extfs"]],
    "SecurityOptions": ["name=seccomp,profile=default"],
    "NCPU": 2,
    "MemTotal": 1000,
}
NEW = OLD | {
    "ServerVersion": "29.8.1",
    "Architecture": "aarch64",
    "Driver": "overlayfs",
    "DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]],
    "CDISpecDirs": ["/etc/cdi", "/var/run/cdi"],
    "DiscoveredDevices": [
        {"Source": "cdi", "ID": "nvidia.com/gpu=all"},
        {"Source": "cdi", "ID": "nvidia.com/gpu=0"},
    ],
    "SecurityOptions": ["name=rootless"],
    "CgroupVersion": "2",
    "LiveRestoreEnabled": True,
}


def test_an_old_engine_reports_no_cdi_and_knows_of_no_devices() -> None:
    report = parse_report(OLD, {"ApiVersion": "1.41"})
    assert (report.version, report.api_version) == ("20.10.24+dfsg1", "1.41")
    assert report.runtimes == ("nvidia", "runc")
    assert not report.cdi
    assert report.discovered_devices is None
    assert not report.containerd_store
    assert not report.rootless
    assert report.cgroup_version == 1
    assert report.architecture == "amd64"


def test_a_new_engine_reports_its_devices() -> None:
    report = parse_report(NEW, {"ApiVersion": "1.55"})
    assert report.cdi
    assert report.discovered_devices == ("nvidia.com/gpu=0", "nvidia.com/gpu=all")
    assert report.containerd_store
    assert report.rootless
    assert report.live_restore
    assert report.cgroup_version == 2
    assert report.architecture == "arm64"


def test_cdi_switched_off_has_no_spec_dirs() -> None:
    report = parse_report(NEW | {"CDISpecDirs": [], "DiscoveredDevices": None}, {})
    assert not report.cdi
    assert report.discovered_devices is None


def test_references() -> None:
    assert split_reference("debian") == ("debian", "latest")
    assert split_reference("a/b:1") == ("a/b", "1")
    assert split_reference("localhost:5000/a/b") == ("localhost:5000/a/b", "latest")
    assert split_reference("localhost:5000/a/b:2") == ("localhost:5000/a/b", "2")
    assert split_reference("a@sha256:00") == ("a", "sha256:00")


def test_an_image_without_a_config_is_one_all_the_same() -> None:
    image = parse_image({"Id": "sha256:1", "Config": None, "RepoTags": None, "RootFS": None})
    assert (image.tags, image.env, image.layers) == ((), {}, ())


def test_env_keeps_what_comes_after_the_first_equals_sign() -> None:
    image = parse_image({"Id": "1", "Config": {"Env": ["A=b=c", "EMPTY="]}})
    assert image.env == {"A": "b=c", "EMPTY": ""}


def test_a_container_is_asked_for_in_full() -> None:
    new = NewContainer(
        image="remotedl/base:1",
        command=("sleep", "1"),
        entrypoint=(),
        env={"A": "b c"},
        user="1000:1000",
        mounts=(Mount("/home/a/p", "/workspace"),),
        ports=(PortRequest(8888), PortRequest(6006, 16006)),
        init=True,
        shm_size=8 << 30,
        ulimits=(Ulimit("memlock", -1, -1),),
        device_requests=(DeviceRequest(driver="cdi", device_ids=("nvidia.com/gpu=0",)),),
        restart="on-failure:3",
        healthcheck=Healthcheck(("true",), interval_s=2.5),
        cpus=1.5,
    )
    asked = container_json(new)
    host = asked["HostConfig"]
    assert asked["Cmd"] == ["sleep", "1"]
    assert asked["Entrypoint"] == [""]
    assert asked["Env"] == ["A=b c"]
    assert host["PortBindings"] == {
        "8888/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}],
        "6006/tcp": [{"HostIp": "127.0.0.1", "HostPort": "16006"}],
    }
    assert host["Mounts"] == [
        {"Type": "bind", "Source": "/home/a/p", "Target": "/workspace", "ReadOnly": False}
    ]
    assert host["DeviceRequests"][0]["Count"] == 0
    assert host["DeviceRequests"][0]["DeviceIDs"] == ["nvidia.com/gpu=0"]
    assert host["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 3}
    assert host["ShmSize"] == 8 << 30
    assert host["NanoCpus"] == 1_500_000_000
    assert asked["Healthcheck"]["Test"] == ["CMD", "true"]
    assert asked["Healthcheck"]["Interval"] == 2_500_000_000


def test_a_container_that_starts_is_looked_at_more_often() -> None:
    starting = Healthcheck(("true",), start_period_s=60)

    asked = container_json(NewContainer(image="x", healthcheck=starting))["Healthcheck"]
    at_once = container_json(NewContainer(image="x", healthcheck=Healthcheck(("true",))))

    assert (asked["StartInterval"], asked["Interval"]) == (2_000_000_000, 30_000_000_000)
    assert "StartInterval" not in at_once["Healthcheck"]


def test_what_is_not_asked_for_is_left_to_the_engine() -> None:
    asked = container_json(NewContainer(image="x"))
    assert not {"Cmd", "Entrypoint", "Healthcheck", "StopSignal"} & asked.keys()
    assert not {"ShmSize", "Runtime"} & asked["HostConfig"].keys()


def test_a_running_container() -> None:
    found = {
        "Id": "abc",
        "Name": "/remotedl-p-123456",
        "Image": "sha256:1",
        "State": {"Status": "running", "Running": True, "Health": {"Status": "healthy"}},
        "Config": {"Image": "x:1", "Labels": {"a": "b"}},
        "NetworkSettings": {
            "Ports": {
                "8888/tcp": [{"HostIp": "127.0.0.1", "HostPort": "32768"}],
                "9/tcp": None,
            },
            "Networks": {"bridge": {"IPAddress": "172.17.0.2"}},
        },
        "Mounts": [{"Source": "/a", "Destination": "/b", "RW": False}],
    }
    container = parse_container(found)
    assert container.name == "remotedl-p-123456"
    assert container.health is Health.HEALTHY
    assert container.ports == (PublishedPort(8888, "tcp", "127.0.0.1", 32768),)
    assert container.mounts == (Mount("/a", "/b", read_only=True),)
    assert container.address == "172.17.0.2"


def test_frames_are_taken_apart_and_a_cut_one_is_left_out() -> None:
    def frame(which: int, data: bytes) -> bytes:
        return struct.pack(">BxxxL", which, len(data)) + data

    content = frame(1, b"out\n") + frame(2, b"err\n") + b"\1\0"
    assert b"".join(unframed(content)) == b"out\nerr\n"
