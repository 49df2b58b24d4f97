"""Every error that remotedl raises on purpose, as one tree.

RemotedlError                1  a failure that no family below names
├── UsageError               2  the command line asks for something that makes no sense
├── ConfigError             10  hosts.toml, ~/.ssh/config or a state file cannot be used
│   ├── ConfigNotFound      11  no configuration, or no such host in it
│   └── StateCorrupt        12  a state file is damaged; it is never taken for an empty one
├── SshError                20  the host cannot be reached or refuses us
│   ├── HostKeyChanged      21  the host's key is not the one in known_hosts
│   ├── HostKeyUnknown      22  the host's key is not known and nobody said yes
│   ├── AuthFailed          23  the host accepts none of our credentials
│   ├── HostUnreachable     24  no such name, no route, port closed, time-out
│   ├── LinkLost            25  a connection that worked is gone
│   ├── SudoRefused         26  sudo is needed and not to be had
│   ├── RemoteCommandFailed 27  a command on the host ended with a non-zero status
│   └── RemoteTimeout       28  the host, or a command on it, did not answer in time
├── ProvisionError          30  the host cannot be made ready
│   ├── UnsupportedHost     31  nothing was changed: the plan stops with the reason
│   ├── StepFailed          32  one step of the plan failed
│   └── RebootNeeded        33  goes on after a reboot
├── EngineError             40  the Docker Engine on the host refuses or is gone
│   ├── ImageNotFound       41  no such image or tag
│   ├── BuildFailed         42  a Dockerfile's step failed
│   └── ImageUnfit          43  the image needs more than the host offers
├── ContainerError          50  the container (or the native runtime) does not come to work
│   ├── JobsRunning         51  what was asked for would end a running job
│   └── JobNotFound         52  no such job
├── SyncError               60  the two folders cannot be brought together
│   ├── SyncHalted          61  going on might lose files; says the way on
│   ├── RootInUse           62  another session holds this folder
│   ├── FolderUnusable      63  a folder is missing, not writable, full or out of bounds
│   ├── ProtocolError       64  the agent says something that it must not say
│   └── SyncPaused          65  nothing is moved until it is resumed
├── TunnelError             70  a port cannot be opened
│   └── ForwardingForbidden 71  the host's sshd forwards no connections
└── SessionError            80  no such session, or one that does not answer

Each error carries what happened (the message), where and why (in the message), and the next
command to type (`hint`). `cli/errors.py` alone turns one into an exit status. 130 is Ctrl-C.
Host-side disk trouble is `FolderUnusable` in sync, `StepFailed` in provision and `EngineError`
in images, so that the family says which stage stopped.
"""

from __future__ import annotations


class RemotedlError(Exception):
    """A failure with a message for the user, an exit code and the next thing to do."""

    exit_code = 1
    hint = ""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        if hint is not None:
            self.hint = hint

    @property
    def message(self) -> str:
        return str(self.args[0])


class UsageError(RemotedlError):
    """The command line asks for something that makes no sense."""

    exit_code = 2


class ConfigError(RemotedlError):
    """hosts.toml, ~/.ssh/config or a state file cannot be used."""

    exit_code = 10


class ConfigNotFound(ConfigError):
    """No configuration was found, or it names no such host."""

    exit_code = 11
    hint = "remotedl init"


class StateCorrupt(ConfigError):
    """A state file is damaged. It is never taken for an empty one."""

    exit_code = 12


class SshError(RemotedlError):
    """The host cannot be reached, or refuses us."""

    exit_code = 20


class HostKeyChanged(SshError):
    """The host's key is not the one in known_hosts."""

    exit_code = 21


class HostKeyUnknown(SshError):
    """The host's key is not in known_hosts, and nobody accepted it."""

    exit_code = 22


class AuthFailed(SshError):
    """The host accepts none of our credentials."""

    exit_code = 23


class HostUnreachable(SshError):
    """No such name, no route, the port is closed, or no answer in time."""

    exit_code = 24


class LinkLost(SshError):
    """A connection that worked is gone."""

    exit_code = 25


class SudoRefused(SshError):
    """sudo is needed and not to be had."""

    exit_code = 26


class RemoteCommandFailed(SshError):
    """A command on the host ended with a non-zero status."""

    exit_code = 27


class RemoteTimeout(SshError, TimeoutError):
    """The host, or a command on it, did not answer in time."""

    exit_code = 28


class ProvisionError(RemotedlError):
    """The host cannot be made ready."""

    exit_code = 30


class UnsupportedHost(ProvisionError):
    """The plan stops before anything is changed, with the reason."""

    exit_code = 31


class StepFailed(ProvisionError):
    """One step of the plan failed."""

    exit_code = 32


class RebootNeeded(ProvisionError):
    """Provisioning goes on after a reboot of the host."""

    exit_code = 33


class EngineError(RemotedlError):
    """The Docker Engine on the host refuses, or is gone."""

    exit_code = 40


class ImageNotFound(EngineError):
    """There is no such image or tag."""

    exit_code = 41


class BuildFailed(EngineError):
    """A step of a Dockerfile failed."""

    exit_code = 42


class ImageUnfit(EngineError):
    """The image needs more than the host offers (CUDA, architecture)."""

    exit_code = 43


class ContainerError(RemotedlError):
    """The container, or the native runtime in its place, does not come to work."""

    exit_code = 50


class JobsRunning(ContainerError):
    """What was asked for would end a running job."""

    exit_code = 51


class JobNotFound(ContainerError):
    """There is no such job."""

    exit_code = 52


class SyncError(RemotedlError):
    """The two folders cannot be brought together."""

    exit_code = 60


class SyncHalted(SyncError):
    """Going on might lose files; the message says the way on."""

    exit_code = 61


class RootInUse(SyncError):
    """Another session holds this folder."""

    exit_code = 62


class FolderUnusable(SyncError):
    """A folder is missing, not writable, full or out of bounds."""

    exit_code = 63


class ProtocolError(SyncError):
    """The agent says something that it must not say."""

    exit_code = 64


class SyncPaused(SyncError):
    """The user paused the sync; nothing is moved until it is resumed."""

    exit_code = 65


class TunnelError(RemotedlError):
    """A port cannot be opened."""

    exit_code = 70


class ForwardingForbidden(TunnelError):
    """The host's sshd forwards no connections, or not this one."""

    exit_code = 71
    hint = "see AllowTcpForwarding in /etc/ssh/sshd_config on the host"


class SessionError(RemotedlError):
    """There is no such session, or it does not answer."""

    exit_code = 80
