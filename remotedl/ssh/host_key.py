"""Whether we go on with the key that a host shows: the one rule, as OpenSSH has it.

In this order (check_host_key of sshconnect.c): RevokedHostKeys; a certificate of an authority that
known_hosts names; the key by the host's name, with its port; and with CheckHostIP by its address.
A key that is not the one we know ends it, whatever `--accept-new` or StrictHostKeyChecking say:
there OpenSSH is laxer, which goes on with a warning where StrictHostKeyChecking is "no".
"""

from __future__ import annotations

import ipaddress
import shlex
import subprocess
import tempfile
import time
from pathlib import Path

from remotedl.errors import HostKeyChanged, HostKeyUnknown
from remotedl.report import Report
from remotedl.ssh import known_hosts
from remotedl.ssh.certificate import Certificate
from remotedl.ssh.known_hosts import Key, Line, Verdict
from remotedl.ssh.prompt import Prompt
from remotedl.ssh.route import Hop

KRL = b"SSHKRL\n\0"
KEYGEN_LIMIT_S = 20.0


class Judge:
    """Decides about the key of one hop."""

    def __init__(self, hop: Hop, prompt: Prompt, *, accept_new: bool, report: Report) -> None:
        trust = hop.trust
        self.known = known_hosts.read((*trust.user_files, *trust.system_files))
        self._hop = hop
        self._prompt = prompt
        self._accept_new = accept_new or trust.accept_new
        self._report = report

    def wanted_kinds(self) -> tuple[str, ...]:
        """The kinds of keys to ask for first, so that no other comes; see order_hostkeyalgs."""
        lines = self.known.known_keys(self._hop.key_name)
        kinds = [line.key.kind for line in lines]
        return tuple(dict.fromkeys(kinds))

    def certificates_wanted(self) -> bool:
        return bool(self.known.authorities(self._hop.key_name))

    def check(self, key: Key, signed: Certificate | None, peer: str | None) -> None:
        """`peer`: the address that we are connected to, None where something is in between.

        Raises HostKeyChanged, HostKeyUnknown.
        """
        trust = self._hop.trust
        keys = (key,) if signed is None else (key, signed.authority)
        self._check_lists(keys)
        if trust.trust_loopback and trust.alias is None and _is_loopback(peer):
            return
        if self.known.revoked(self._hop.key_name, *keys):
            raise self._revoked(key, "known_hosts")
        if signed is not None and self._is_vouched_for(signed):
            return
        verdict = self.known.judge(self._hop.key_name, key)
        if verdict is Verdict.REVOKED:
            raise self._revoked(key, "known_hosts")
        if verdict is Verdict.CHANGED:
            raise self._changed(key, self.known.known_keys(self._hop.key_name)[0])
        address = self._address_to_check(peer)
        by_address = self.known.judge(address, key) if address else Verdict.KNOWN
        if by_address is Verdict.REVOKED:
            raise self._revoked(key, "known_hosts")
        if by_address is Verdict.CHANGED and address:
            self._other_by_address(key, address)
        if verdict is Verdict.UNKNOWN:
            self._meet(key)
        if by_address is Verdict.UNKNOWN and address:
            self._remember(address, key)

    # Below: how it is done.

    def _check_lists(self, keys: tuple[Key, ...]) -> None:
        for file in self._hop.trust.revoked_files:
            try:
                revoked = _is_listed(file, keys)
            except (OSError, subprocess.SubprocessError) as exc:
                raise HostKeyChanged(
                    f"{file} (RevokedHostKeys) cannot be read, so no host's key can be trusted: "
                    f"{exc}",
                    hint=f"mend {file}, or take RevokedHostKeys out of ~/.ssh/config",
                ) from exc
            if revoked:
                raise self._revoked(keys[0], str(file))

    def _is_vouched_for(self, signed: Certificate) -> bool:
        if signed.authority not in self.known.authorities(self._hop.key_name):
            return False
        name = self._hop.trust.alias or self._hop.address.lower()
        fault = signed.fault(name, time.time())
        if fault is not None:
            self._report.warn(f"the certificate of {self._hop.shown} counts for nothing: {fault}")
        return fault is None

    def _address_to_check(self, peer: str | None) -> str | None:
        """CheckHostIP: the address as known_hosts has it, where it says more than the name."""
        hop = self._hop
        if not hop.trust.check_ip or peer is None or hop.trust.alias is not None:
            return None
        if _is_loopback(peer) or peer == hop.address:
            return None
        return known_hosts.known_name(peer, hop.port)

    def _other_by_address(self, key: Key, address: str) -> None:
        hop = self._hop
        line = self.known.known_keys(address)[0]
        question = (
            f"the key of {hop.shown} is known by its name, but {line.file}, line {line.number}, "
            f"has another for {address}. Go on?"
        )
        if self._accept_new or hop.trust.strict or not self._prompt.confirm(question):
            raise self._changed(key, line, address)

    def _changed(self, key: Key, line: Line, name: str | None = None) -> HostKeyChanged:
        name = name or self._hop.key_name
        return HostKeyChanged(
            f"the key of {self._hop.shown} is not the one in {line.file}, line {line.number}: it "
            f"was {line.key.kind} {line.key.fingerprint}, now it is {key.kind} {key.fingerprint}. "
            "Either the host was installed anew, or someone is listening",
            hint="check the key with the host's owner, then: "
            + shlex.join(["ssh-keygen", "-f", str(line.file), "-R", name]),
        )

    def _revoked(self, key: Key, where: str) -> HostKeyChanged:
        return HostKeyChanged(
            f"the key of {self._hop.shown} is marked as revoked in {where} "
            f"({key.fingerprint}): someone may be listening",
            hint="ask the owner of the host for its new key",
        )

    def _meet(self, key: Key) -> None:
        """An unknown key: accepted by order or by a person, and remembered."""
        hop = self._hop
        shown = f"{key.kind} {key.fingerprint}"
        if not hop.trust.user_files:
            raise HostKeyUnknown(
                f"the key of {hop.shown} is not known ({shown}), and UserKnownHostsFile none in "
                "~/.ssh/config leaves no file to remember it in",
                hint="name a file in UserKnownHostsFile, or known_hosts in hosts.toml",
            )
        if not self._accept_new:
            question = (
                f"{hop.shown} is not known yet. Its {key.kind} key is {key.fingerprint}. "
                "Is this the host you mean?"
            )
            if hop.trust.strict or not self._prompt.confirm(question):
                raise HostKeyUnknown(
                    f"the key of {hop.shown} is not known: {shown}",
                    hint="compare it with the host's owner, then: remotedl doctor --accept-new",
                )
        self._remember(hop.key_name, key)

    def _remember(self, name: str, key: Key) -> None:
        files = self._hop.trust.user_files
        if not files:
            return
        try:
            known_hosts.add(files[0], name, key, hashed=self._hop.trust.hash_names)
        except OSError as exc:
            self._report.warn(
                f"the key of {self._hop.shown} cannot be remembered: {files[0]}: {exc.strerror}"
            )
        else:
            self._report.note(f"{self._hop.shown}: key {key.fingerprint} added to {files[0]}")


def _is_listed(file: Path, keys: tuple[Key, ...]) -> bool:
    """Whether a file of RevokedHostKeys names one of `keys`. Raises OSError, SubprocessError."""
    data = file.read_bytes()
    if data.startswith(KRL):
        return any(_is_in_krl(file, key) for key in keys)
    for text in data.decode("utf-8", "replace").split("\n"):
        fields = text.split()
        if len(fields) > 1 and known_hosts.read_key(fields[0], fields[1]) in keys:
            return True
    return False


def _is_in_krl(file: Path, key: Key) -> bool:
    """By ssh-keygen, which alone reads the format. Raises OSError, SubprocessError."""
    with tempfile.TemporaryDirectory(prefix="rdl-") as folder:
        public = Path(folder, "key.pub")
        public.write_text(key.line, encoding="ascii")
        argv = ["ssh-keygen", "-Q", "-f", str(file), str(public)]
        done = subprocess.run(argv, capture_output=True, timeout=KEYGEN_LIMIT_S, check=False)
    if done.returncode not in (0, 1) or (done.returncode == 1 and b"REVOKED" not in done.stdout):
        raise OSError(done.stderr.decode("utf-8", "replace").strip() or "ssh-keygen -Q failed")
    return done.returncode == 1


def _is_loopback(peer: str | None) -> bool:
    try:
        return peer is not None and ipaddress.ip_address(peer.partition("%")[0]).is_loopback
    except ValueError:
        return False
