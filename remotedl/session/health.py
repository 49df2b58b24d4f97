"""`doctor` and `gpus`: the host looked at over a connection of their own."""

from __future__ import annotations

from remotedl.errors import RemotedlError, SessionError
from remotedl.provision.examine import examine
from remotedl.provision.examine import fix as mend
from remotedl.provision.findings import Finding, Grade, Place, in_order
from remotedl.provision.gpus import GpuView, look_at_gpus, views
from remotedl.session.errands import Errand, snapshot_of
from remotedl.session.tunnels import wanted_tunnels
from remotedl.ssh.remote import Remote


def examine_host(errand: Errand, *, fix: bool) -> tuple[list[Finding], list[Finding]]:
    """What was found, the worst first, after what was mended. No link is a finding, too."""
    remote: Remote | None = None
    trouble: RemotedlError | None = None
    try:
        remote = errand.connect()
    except RemotedlError as exc:
        trouble = exc
    try:
        found = _look(errand, remote, trouble)
        mended = mend(remote, found, report=errand.report) if fix else []
        return (_look(errand, remote, trouble) if mended else found), mended
    finally:
        if remote is not None:
            remote.close()


def gpu_views(errand: Errand) -> tuple[tuple[GpuView, ...], str]:
    """The host's GPUs with their holders; what nvidia-smi said where it gave no answer."""
    remote = errand.connect()
    try:
        report = look_at_gpus(remote)
    finally:
        remote.close()
    return views(report), report.trouble


def _look(errand: Errand, remote: Remote | None, trouble: RemotedlError | None) -> list[Finding]:
    wants = wanted_tunnels(errand.project.config.project, errand.host)
    own, silent = _own_session(errand)
    found = examine(
        remote,
        host_name=errand.host_name,
        host=errand.host,
        project=errand.project.root,
        ports=[want.laptop_port for want in wants],
        own_ports=own,
        link_error=trouble,
    )
    return list(in_order([*found, *silent]))


def _own_session(errand: Errand) -> tuple[list[int], list[Finding]]:
    """The ports of our own session; a finding where it is there and does not answer."""
    record = errand.session()
    if record is None:
        return [], []
    try:
        return [tunnel.port for tunnel in snapshot_of(record).tunnels], []
    except SessionError as exc:
        finding = Finding("session-silent", Place.LAPTOP, Grade.BAD, exc.message, mend=exc.hint)
        return [], [finding]
