"""The project's ground on the host: its folders, its token, and remotedl's files in the run folder.

One look (`survey`) makes the folders and says who we are there; `furnish` writes what changed. Both
runtimes stand on it. The user's own files are never touched here.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets as chance
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

from remotedl.config.models import HostConfig
from remotedl.container.services import DOORS, Service, Tools, services_json, supervisord_conf
from remotedl.container.spec import Folders, ProjectName, User
from remotedl.errors import ContainerError, RemoteCommandFailed, StateCorrupt
from remotedl.ssh.remote import Remote

PAYLOAD = ("launch.py", "job.py", "health.py", "keep.py", "idle.py", "door.py", "board.py")
TOKEN = re.compile(r"[0-9a-f]{64}")
STAMP = "furnished.sha256"
ZONE = re.compile(r"[A-Za-z0-9_+-]+(?:/[A-Za-z0-9_+-]+)*")

# POSIX sh, whatever the login shell is. Prints NAME=VALUE lines, and nothing on stdout before them.
SURVEY = r"""
umask 077
absolute() {
    case $1 in
        '~') printf %s "$HOME" ;;
        '~/'*) printf %s "$HOME/${1#??}" ;;
        /*) printf %s "$1" ;;
        *) printf %s "$HOME/$1" ;;
    esac
}
run=$HOME/.remotedl/run/$1
work=$(absolute "$2")
# Unless it was named, it stays where it was first made, whatever the laptop's folder is called now.
known=$(cat "$run/workdir" 2>/dev/null)
[ -z "$5" ] || [ -z "$known" ] || work=$known
data=$(absolute "$3")
for folder in "$run/logs" "$run/home" "$run/jobs" "$run/s" "$data"; do
    mkdir -p "$folder" || exit 9
done
# Who can reach the sockets in there is who the services are for: nobody but us.
for folder in "$run" "$run/s"; do
    [ -O "$folder" ] && [ ! -L "$folder" ] && continue
    echo "$folder belongs to somebody else" >&2
    exit 9
done
chmod 700 "$run" "$run/s" || exit 9
gone=
if [ -d "$work" ] || [ "$(cat "$run/workdir" 2>/dev/null)" != "$work" ]; then
    mkdir -p "$work" || exit 9
    [ -w "$work" ] || { echo "$work is not writable" >&2; exit 9; }
    printf '%s\n' "$work" >"$run/workdir.new" && mv "$run/workdir.new" "$run/workdir"
else
    gone=yes # it was made once: its disk is not mounted, or somebody moved or removed it
fi
zone=$(cat /etc/timezone 2>/dev/null || readlink /etc/localtime 2>/dev/null)
printf '%s\n' "home=$HOME" "run=$run" "work=$work" "data=$data" \
    "name=$(id -un)" "uid=$(id -u)" "gid=$(id -g)" "group=$(id -gn)" \
    "gids=$(id -G)" "groups=$(id -Gn)" "zone=${zone##*/zoneinfo/}" \
    "token=$(cat "$run/token" 2>/dev/null)" "stamp=$(cat "$run/$4" 2>/dev/null)" \
    "watched=$([ -f "$run/idle-settings.json" ] && echo yes)" "gone=$gone"
"""

# link() fails where the token is there already, so two laptops agree on the first one's.
KEEP_FIRST = 'ln "$1" "$2" 2>/dev/null || [ -s "$2" ] || mv "$1" "$2"; rm -f "$1"; cat "$2"'


@dataclass(frozen=True, slots=True)
class Ground:
    """What `survey` found."""

    user: User
    folders: Folders
    time_zone: str
    token: str | None
    stamp: str
    watched: bool = False
    """autostop was asked for last time."""
    gone: bool = False
    """The project's folder was there once and is not: it is not made anew behind the user's back,
    so that the sync says what it found and halts."""


def survey(remote: Remote, project: ProjectName, host: HostConfig) -> Ground:
    """Make the project's folders on the host (0700) and look around. One round trip.

    The project's folder is made once; one that has gone since is `Ground.gone`.
    Raises ContainerError where a folder cannot be made or written to.
    """
    workdir = host.workdir or f"~/remotedl/{project.slug}-{project.id[:6]}"
    usual = "" if host.workdir else "usual"
    argv = ["sh", "-c", SURVEY, "sh", project.id, workdir, host.data, STAMP, usual]
    result = remote.run(argv, check=False)
    if result.code != 0:
        raise ContainerError(
            f"{remote.name}: a folder cannot be used: {result.error_text.strip()}",
            hint="set workdir or data of this host in hosts.toml to folders that you may write",
        )
    return parse_survey(result.text)


def stand_on(remote: Remote, ground: Ground) -> Ground:
    """Ground that something can be started on. Raises ContainerError where the project's folder
    has gone."""
    if ground.gone:
        raise ContainerError(
            f"{remote.name}: {ground.folders.workdir} is not there any more: its disk is not "
            "mounted, or somebody moved or removed it",
            hint="put it back; or fill a new one from the laptop: "
            "remotedl sync --once --allow root-missing",
        )
    return ground


def parse_survey(text: str) -> Ground:
    """A Ground out of SURVEY's output."""
    found = dict(line.partition("=")[::2] for line in text.splitlines() if "=" in line)
    user = User(
        name=found["name"],
        uid=int(found["uid"]),
        gid=int(found["gid"]),
        group=found["group"],
        home=found["home"],
        groups=_groups(found["gids"], found["groups"]),
    )
    folders = Folders(workdir=found["work"], data=found["data"], run=found["run"])
    token = found["token"] or None
    if token is not None and not TOKEN.fullmatch(token):
        raise _damaged_token(folders.run)
    zone = found["zone"] if ZONE.fullmatch(found["zone"]) else ""
    return Ground(
        user,
        folders,
        zone,
        token,
        found["stamp"],
        bool(found["watched"]),
        gone=bool(found.get("gone")),
    )


def _damaged_token(run_folder: str) -> StateCorrupt:
    return StateCorrupt(
        f"{run_folder}/token on the host is damaged",
        hint="delete that file; Jupyter then gets a new token",
    )


def token_of(
    remote: Remote, ground: Ground, random: Callable[[int], str] = chance.token_hex
) -> str:
    """The project's token: written once, 0600, and kept; 64 hex characters."""
    if ground.token is not None:
        return ground.token
    fresh = f"{ground.folders.run}/token.{random(4)}"
    _write(remote, random(32).encode(), fresh)
    argv = ["sh", "-c", KEEP_FIRST, "sh", fresh, f"{ground.folders.run}/token"]
    kept = remote.run(argv).text.strip()
    if not TOKEN.fullmatch(kept):  # it becomes part of an address that a browser opens
        raise _damaged_token(ground.folders.run)
    return kept


def furnishing(
    found: list[Service], tools: Tools, secrets: Mapping[str, str], doors: Sequence[int] = ()
) -> dict[str, bytes]:
    """The files of the run folder that remotedl writes, by name."""
    payload = resources.files("remotedl.container") / "payload"
    files = {name: (payload / name).read_bytes() for name in PAYLOAD}
    files["services.conf"] = supervisord_conf(found, tools)
    files["services.json"] = services_json(found)
    files[DOORS] = json.dumps(list(doors)).encode()
    files["env.json"] = json.dumps(dict(secrets), sort_keys=True).encode()
    return files


def furnish(remote: Remote, ground: Ground, files: Mapping[str, bytes]) -> frozenset[str]:
    """Write the files that differ from what is there; their names. Nothing to do is the rule."""
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}
    stamp = json.dumps(digests, separators=(",", ":"))
    if stamp == ground.stamp:
        return frozenset()
    try:
        known = dict(json.loads(ground.stamp))
    except ValueError:
        known = {}  # the stamp is a shortcut, not a state: without it everything is written
    changed = frozenset(name for name in files if known.get(name) != digests[name])
    for name in sorted(changed):
        _write(remote, files[name], f"{ground.folders.run}/{name}")
    _write(remote, stamp.encode(), f"{ground.folders.run}/{STAMP}")
    return changed


def _write(remote: Remote, data: bytes, path: str) -> None:
    try:
        remote.put(data, path)
    except RemoteCommandFailed as exc:
        raise ContainerError(
            f"{path} cannot be written: {exc.message}",
            hint=f"make room in the home folder on {remote.name} (df -h ~)",
        ) from exc


def _groups(numbers: str, names: str) -> tuple[tuple[int, str], ...]:
    """Group names of a directory service may hold spaces; then numbers stand in for them."""
    gids, words = [int(number) for number in numbers.split()], names.split()
    if len(gids) != len(words):
        words = [f"g{gid}" for gid in gids]
    return tuple(zip(gids, words, strict=True))


def check_mounts(remote: Remote, sources: list[str]) -> list[str]:
    """Every extra mount must be there already; where each leads, links followed.

    Raises ContainerError naming one that isn't.
    """
    if not sources:
        return []
    script = (
        'for path; do [ -e "$path" ] || { printf "%s\\n" "$path"; exit 1; }; '
        'readlink -f -- "$path"; done'
    )
    result = remote.run(["sh", "-c", script, "sh", *sources], check=False)
    if result.code != 0:
        path = result.text.strip()
        raise ContainerError(
            f"{remote.name}: the mount {path} is not there",
            hint="make it on the host, or mend mounts in hosts.toml",
        )
    return result.text.splitlines()
