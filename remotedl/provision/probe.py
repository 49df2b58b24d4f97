"""Asks a host what it is: sends the probe over a `Remote` and has the answer parsed.

One round trip; a second one where a URL must be tried or where sudo wants a password before the
engine answers. It reads only, and decides nothing but which of the two to ask.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources

from remotedl.config.models import RuntimeKind, SudoMode
from remotedl.errors import ProvisionError
from remotedl.provision.facts import HostFacts
from remotedl.provision.frame import ProbeUnreadable, Section, merge, read_frame
from remotedl.provision.parse import parse_facts
from remotedl.provision.parse_engine import with_podman
from remotedl.provision.plan import urls_to_check
from remotedl.provision.steps import Wish
from remotedl.ssh import quoting
from remotedl.ssh.remote import Remote, Result

LIMIT_S = 120.0


def gather(remote: Remote, wish: Wish | None = None, *, sys_root: str = "") -> HostFacts:
    """All facts about the host. `sys_root`: where doubles of /sys and /proc/driver lie (lab).

    With a `wish`, the URLs that its plan depends on are tried too. The sudo password is asked
    for only where an engine is there that the user cannot reach without it.
    Raises ProvisionError when the answer makes no sense, SudoRefused, TimeoutError, LinkLost.
    """
    wish = wish or Wish()
    first = ask(remote, "user", sys_root)
    facts = parse_facts(first)
    urls = urls_to_check(facts, wish)
    later = list[Mapping[str, Section]]()
    if _hidden_engine(facts) and _may_be_root(wish):
        later.append(ask(remote, "root", sys_root, urls, wish.proxy, root=True))
    elif urls:
        later.append(ask(remote, "net", sys_root, urls, wish.proxy))
    facts = parse_facts(merge([first, *later])) if later else facts
    return facts if _may_be_root(wish) else with_podman(facts, root=False)


def ask(
    remote: Remote,
    part: str,
    sys_root: str = "",
    urls: Sequence[str] = (),
    proxy: str = "",
    *,
    root: bool = False,
) -> dict[str, Section]:
    """One run of probe.sh; `proxy` goes on stdin, since it may hold a password."""
    stdin = exports(proxy_variables(proxy)) + script("probe.sh")
    call = remote.sudo if root else remote.run
    argv = ["sh", "-s", "--", part, sys_root, *urls]
    return framed(remote, call(argv, stdin=stdin, timeout_s=LIMIT_S, check=False))


def framed(remote: Remote, result: Result) -> dict[str, Section]:
    """The sections of an answer. Raises ProvisionError where it has no end."""
    try:
        return read_frame(result.stdout)
    except ProbeUnreadable:
        said = (result.error_text.strip() or result.text.strip()).splitlines()[-3:]
        raise ProvisionError(
            f"{remote.name}: the host cannot be looked at (sh ended with {result.code}): "
            + (" / ".join(said) or "it said nothing"),
            hint=f"ssh {remote.name} true",
        ) from None


@cache
def script(name: str) -> bytes:
    """A script of this package."""
    return resources.files(__package__).joinpath(name).read_bytes()


def proxy_variables(proxy: str) -> dict[str, str]:
    """What apt, dnf, curl and pip read; empty without a proxy."""
    if not proxy:
        return {}
    names = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")
    return dict.fromkeys(names, proxy) | {"no_proxy": "localhost,127.0.0.1,::1"}


def exports(variables: Mapping[str, str]) -> bytes:
    """Lines of sh that set these; for stdin, where no process list shows them."""
    lines = (f"export {name}={quoting.quote(value)}\n" for name, value in variables.items())
    return "".join(lines).encode()


def _hidden_engine(facts: HostFacts) -> bool:
    return facts.sudo == "password" and "docker" in facts.tools and not facts.engine.works


def _may_be_root(wish: Wish) -> bool:
    return wish.sudo is not SudoMode.NONE and wish.runtime is not RuntimeKind.NATIVE
