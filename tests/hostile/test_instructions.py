"""The host writes files that tell a program of the laptop what to do. They stay on the host.

Real files and the real agent; what each must not reach is the laptop's folder.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from remotedl.config.models import ASK_BEFORE, SyncConfig, SyncMode
from remotedl.errors import UsageError
from remotedl.sync.agent import staging
from remotedl.sync.agent.ignore import Ignore, Source
from remotedl.sync.agent.tree import Kind
from remotedl.sync.instructions import Instructions
from remotedl.sync.lanes import Choice
from remotedl.sync.verdict import Where
from tests.lab_tests.sync.folders import Folders, tree

EVIL = "touch /tmp/pwned"
NEVER = (
    ".git/hooks/pre-commit",
    ".GIT/config",
    ".Git/hooks/post-checkout",
    "sub/.git",
    "sub/.gIt/config",
    ".g\u200cit/config",
    ".gi\ufefft/config",
    "git~1/config",
    "gi7eba~1",
    "GIT~2",
    ".git./config",
    ".git /config",
    ".git::$INDEX_ALLOCATION/config",
    ".REMOTEDL/marker",
    ".remote\u200ddl/with-h1/trash/journal",
    "REMOTE~1/project.toml",
    "deep/er/.remotedl/project.toml",
)
"""Not even listed: nothing of it is ever synced."""
GIT_SSH_REMOTEDL = (
    "hosts.toml",
    "sub/hosts.toml",
    "HOSTS.TOML",
    "HOSTS~1.TOM",
    ".remotedlignore",
    ".RemotedlIgnore",
    ".env",
    "sub/.ENV",
    "ENV~1",
    ".gitmodules",
    "GITMOD~1",
    ".gitattributes",
    "sub/deep/.GitAttributes",
    ".gitconfig",
    ".gitignore",
    ".git-blame-ignore-revs",
    ".GIT-BLAME-x",
    "GIT-BL~1",
    ".mailmap",
    ".lfsconfig",
    ".githooks/pre-commit",
    ".husky/pre-push",
    ".hg/hgrc",
    ".ssh/config",
    "repo/HEAD",
    "repo/head",
    "data.git/config",
    "sub/Data.GIT/Hooks/post-update",
)
TOOLS = (
    ".envrc",
    ".ENVRC",
    ".env.local",
    ".vscode/tasks.json",
    ".VSCode/settings.json",
    "VSCODE~1/tasks.json",
    "sub/.vscode/launch.json",
    ".idea/workspace.xml",
    "x.code-workspace",
    ".devcontainer/devcontainer.json",
    ".devcontainer.json",
    ".pre-commit-config.yaml",
    "conftest.py",
    "tests/conftest.py",
    "sitecustomize.py",
    "usercustomize.py",
    ".editorconfig",
    ".npmrc",
    "jupyter_server_config.py",
    "sitecustomize/__init__.py",
    "sub/usercustomize.cpython-312-x86_64-linux-gnu.so",
    "x/pyvenv.cfg",
    ".zed/settings.json",
    ".helix/languages.toml",
    ".Cursor/mcp.json",
    ".mcp.json",
    ".claude/settings.json",
    ".vimrc",
    "lefthook.yml",
    "mise.local.toml",
    ".mise/config.toml",
    ".RData",
    ".renviron",
    "a.Desktop",
)
HELD = GIT_SSH_REMOTEDL + TOOLS
MODES = [mode for mode in SyncMode if mode is not SyncMode.UPLOAD_ONLY]
ORDINARY = (
    *("train.py", "a.ipynb", "Makefile", "Dockerfile", "sub/model.pth", "git.py"),
    *("head/x.py", "config/a", "hooks.py", "data.git/objects/ab/c"),
)


def plant(side: Path, path: str, text: str = EVIL) -> Path:
    target = side / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
    return target


def files(side: Path) -> set[str]:
    return {path for path, what in tree(side).items() if what != "dir"}


@pytest.mark.parametrize("path", ORDINARY)
def test_ordinary_code_comes_down(folders: Folders, path: str) -> None:
    plant(folders.host, path)
    assert folders.once().conflicts == ()
    assert (folders.laptop / path).read_text() == EVIL


@pytest.mark.parametrize("path", NEVER)
def test_git_and_our_own_folder_are_never_synced(folders: Folders, path: str) -> None:
    plant(folders.laptop, ".remotedlignore", "!.git\n!.git/\n!.GIT/\n!*\n")
    plant(folders.host, path)
    before = files(folders.laptop)
    outcome = folders.once()
    assert files(folders.laptop) == before and outcome.conflicts == ()


@pytest.mark.parametrize("path", NEVER)
def test_nor_do_they_go_up(folders: Folders, path: str) -> None:
    plant(folders.laptop, path)
    folders.once()
    assert files(folders.host) == set()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("path", HELD)
def test_made_on_the_host_it_stays_there_and_is_listed(
    folders: Folders, path: str, mode: SyncMode
) -> None:
    plant(folders.host, path)
    config = SyncConfig(mode=mode, outputs=("*",), ignore=("!*", "!.vscode/"))
    for _ in range(2):
        (conflict,) = folders.once(config=config).conflicts
        assert conflict.held and conflict.laptop is None
        assert path == conflict.key or path.startswith(conflict.key + "/")
        assert files(folders.laptop) == set()
        assert (folders.host / path).read_text() == EVIL


@pytest.mark.parametrize("mode", SyncMode)
@pytest.mark.parametrize("path", [".gitattributes", "sub/.env", ".vscode/tasks.json", ".envrc"])
class TestKnownToBoth:
    """The laptop's own file, which the host then changes, deletes or replaces."""

    @pytest.fixture
    def config(self, mode: SyncMode) -> SyncConfig:
        return SyncConfig(mode=mode)

    @pytest.fixture
    def known(self, folders: Folders, path: str, config: SyncConfig) -> Folders:
        plant(folders.laptop, path, "mine")
        plant(folders.laptop, "sub/a.py", "code")
        plant(folders.laptop, "train.py", "code")
        folders.once(config=config)
        assert (folders.host / path).read_text() == "mine", "the laptop's goes up"
        return folders

    def test_changed(self, known: Folders, path: str, config: SyncConfig) -> None:
        plant(known.host, path)
        known.once(config=config)
        assert (known.laptop / path).read_text() == "mine"

    def test_deleted(self, known: Folders, path: str, config: SyncConfig) -> None:
        (known.host / path).unlink()
        known.once(config=config)
        assert (known.laptop / path).read_text() == "mine"
        assert (known.host / path).read_text() == "mine", "it goes back"

    def test_deleted_with_its_folder(self, known: Folders, path: str, config: SyncConfig) -> None:
        for name in (".vscode", "sub"):
            shutil.rmtree(known.host / name, ignore_errors=True)
        known.once(config=config)
        assert (known.laptop / path).read_text() == "mine"

    @pytest.mark.parametrize("how", ["link", "folder"])
    def test_replaced(self, known: Folders, path: str, config: SyncConfig, how: str) -> None:
        target = known.host / path
        target.unlink()
        if how == "link":
            target.symlink_to("/etc/passwd")
        else:
            plant(target, "x")
        known.once(config=config)
        assert (known.laptop / path).read_text() == "mine" and not (
            known.laptop / path
        ).is_symlink()

    def test_its_folder_is_replaced(self, known: Folders, path: str, config: SyncConfig) -> None:
        above = (known.host / path).parent
        if above == known.host:
            pytest.skip("it lies in the project's folder itself")
        shutil.rmtree(above)
        above.symlink_to("/etc")
        known.once(config=config)
        assert (known.laptop / path).read_text() == "mine"

    def test_restored_after_a_delete(self, known: Folders, path: str, config: SyncConfig) -> None:
        """For other files the edit wins against the delete, and comes back."""
        plant(known.host, path)
        (known.laptop / path).unlink()
        known.once(config=config)
        assert not (known.laptop / path).exists()

    def test_restored_after_a_delete_of_its_folder(
        self, known: Folders, path: str, config: SyncConfig
    ) -> None:
        plant(known.host, path)
        for name in (".vscode", "sub"):
            shutil.rmtree(known.laptop / name, ignore_errors=True)
        (known.laptop / path).unlink(missing_ok=True)
        known.once(config=config)
        assert not (known.laptop / path).exists()

    def test_undo_does_not_bring_it(self, known: Folders, path: str, config: SyncConfig) -> None:
        """Undo brings back the laptop's own versions only."""
        plant(known.host, path)
        plant(known.host, "sub/a.py", "changed")
        sync = known.open(config=config)
        sync.cycle(scan=False)
        for side in (Where.REMOTE, Where.LAPTOP):
            try:
                sync.undo(None, side)
            except UsageError:
                continue
            sync.cycle()
        assert (known.laptop / path).read_text() == "mine"

    def test_the_laptops_change_goes_up(
        self, known: Folders, path: str, config: SyncConfig
    ) -> None:
        plant(known.laptop, path, "mine, too")
        assert known.once(config=config).conflicts == ()
        assert (known.host / path).read_text() == "mine, too"

    def test_the_laptops_delete_goes_up(
        self, known: Folders, path: str, config: SyncConfig
    ) -> None:
        (known.laptop / path).unlink()
        assert known.once(config=config).conflicts == ()
        assert not (known.host / path).exists()


def test_no_file_becomes_executable_against_the_umask(folders: Folders) -> None:
    plant(folders.host, "new.sh").chmod(0o755)
    plant(folders.host, "old.sh")
    before = os.umask(0o133)
    try:
        staging._UMASK.clear()
        folders.once()
        plant(folders.host, "old.sh", "other").chmod(0o755)
        assert folders.once().conflicts == ()
        assert folders.once().idle, "what the umask takes is no edit"
        names = ("new.sh", "old.sh")
        assert not any(os.access(folders.laptop / name, os.X_OK) for name in names)
        assert all(os.stat(folders.host / name).st_mode & 0o100 for name in names)
    finally:
        os.umask(before)
        staging._UMASK.clear()


def test_a_rule_file_from_the_host_changes_nothing(folders: Folders) -> None:
    plant(folders.laptop, ".remotedlignore", "secret/\n")
    plant(folders.laptop, "secret/key", "mine")
    folders.once()
    plant(folders.host, ".remotedlignore", "!secret/\nkept.py\n")
    plant(folders.host, "sub/.gitignore", "!secret/\n")
    plant(folders.laptop, "kept.py", "mine")
    folders.once(config=SyncConfig(use_gitignore=True))
    assert not (folders.host / "secret").exists()
    assert (folders.host / "kept.py").exists()


def test_files_that_the_configuration_names_go_up_only(folders: Folders) -> None:
    named = ("conf/my-hosts.toml", "secrets.txt", "keys/known")
    for path in named:
        plant(folders.laptop, path, "mine")
    folders.once(named=named)
    for path in named:
        plant(folders.host, path)
    plant(folders.host, "CONF/My-Hosts.toml")
    outcome = folders.once(named=named)
    assert {one.key for one in outcome.conflicts} == {*named, "CONF/My-Hosts.toml"}
    assert {(folders.laptop / path).read_text() for path in named} == {"mine"}


def test_ask_before_is_the_users_to_change(folders: Folders) -> None:
    plant(folders.host, ".vscode/settings.json")
    plant(folders.host, "run.sh")
    config = SyncConfig(ask_before=("run.sh",))
    assert [one.key for one in folders.once(config=config).conflicts] == ["run.sh"]
    assert files(folders.laptop) == {".vscode/settings.json"}


def test_an_empty_ask_before_lets_no_setting_of_git_through(folders: Folders) -> None:
    for path in GIT_SSH_REMOTEDL:
        if (folders.host / path.split("/")[0]).exists():
            continue  # another form of the name is there: colliding names are frozen elsewhere
        plant(folders.host, path)
    folders.once(config=SyncConfig(ask_before=()))
    assert files(folders.laptop) == set()


class TestTaken:
    """Only by somebody who was shown what differs, and only what was shown."""

    @pytest.fixture
    def sync(self, folders: Folders) -> Any:
        plant(folders.host, ".vscode/tasks.json", "line one\nline two\n")
        plant(folders.host, ".vscode/more/x.ipynb", '{"evil": "hidden"}')
        sync = folders.open()
        sync.cycle(scan=False)
        return sync

    def test_every_line_is_shown(self, sync: Any) -> None:
        lines = sync.compare(".vscode").lines
        assert {"+line one", "+line two", '+{"evil": "hidden"}'} <= set(lines)
        assert any(".vscode/tasks.json" in line for line in lines)

    def test_unseen_it_is_refused(self, sync: Any, folders: Folders) -> None:
        for choice in (Choice.REMOTE, Choice.BOTH):
            with pytest.raises(UsageError, match="nobody was shown"):
                sync.resolve(".vscode", choice)
        sync.cycle()
        assert files(folders.laptop) == set()

    def test_seen_it_comes(self, sync: Any, folders: Folders) -> None:
        sync.resolve(".vscode", Choice.REMOTE, sync.compare(".vscode").version)
        sync.cycle()
        assert files(folders.laptop) == files(folders.host) and sync.status().conflicts == ()

    def test_changed_after_the_look_it_is_refused(self, sync: Any, folders: Folders) -> None:
        seen = sync.compare(".vscode").version
        plant(folders.host, ".vscode/tasks.json")
        sync.cycle()
        with pytest.raises(UsageError, match="nobody was shown"):
            sync.resolve(".vscode", Choice.REMOTE, seen)

    def test_changed_after_the_decision_it_stays(self, sync: Any, folders: Folders) -> None:
        sync.resolve(".vscode", Choice.REMOTE, sync.compare(".vscode").version)
        plant(folders.host, ".vscode/more/evil")
        sync.cycle()
        assert files(folders.laptop) == set()

    def test_the_laptops_choice_clears_the_host(self, sync: Any, folders: Folders) -> None:
        sync.resolve(".vscode", Choice.LAPTOP)
        sync.cycle()
        assert files(folders.host) == set() and sync.status().conflicts == ()
        sync.undo(None, Where.REMOTE)
        sync.cycle()
        assert len(files(folders.host)) == 2 and files(folders.laptop) == set()


def test_an_instruction_hidden_in_a_folder_against_a_file_needs_the_look(
    folders: Folders,
) -> None:
    plant(folders.laptop, "thing", "a file")
    plant(folders.host, "thing/.gitattributes", "* filter=evil")
    plant(folders.host, "thing/.git/config")
    sync = folders.open()
    sync.cycle(scan=False)
    for choice in (Choice.REMOTE, Choice.BOTH):
        with pytest.raises(UsageError, match="nobody was shown"):
            sync.resolve("thing", choice)
    sync.resolve("thing", Choice.REMOTE, sync.compare("thing").version)
    sync.cycle()
    assert files(folders.laptop) == {"thing/.gitattributes"}


def test_keeping_both_brings_no_instruction(folders: Folders) -> None:
    plant(folders.laptop, "thing", "a file")
    plant(folders.host, "thing/.gitattributes", "* filter=evil")
    sync = folders.open()
    sync.cycle(scan=False)
    sync.resolve("thing", Choice.BOTH, sync.compare("thing").version)
    sync.cycle()
    assert files(folders.laptop) == {"thing"}


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not there")
def test_a_repository_without_a_git_folder_is_none_on_the_laptop(folders: Folders) -> None:
    """`git status` in a bare repository obeys its config: HEAD is what makes it one."""
    bare = folders.host / "evil"
    env = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull}
    subprocess.run(["git", "init", "-q", "--bare", str(bare)], check=True, env=env)
    plant(bare, "objects/x", "")
    plant(bare, "refs/x", "")
    folders.once()
    came = folders.laptop / "evil"
    assert (came / "config").exists() and not (came / "HEAD").exists()
    asked = subprocess.run(
        ["git", "-C", str(came), "rev-parse", "--git-dir"],
        capture_output=True,
        check=False,
        env=env,
    )
    assert asked.returncode != 0


def test_the_default_is_what_the_attacks_assume() -> None:
    assert set(ASK_BEFORE) >= {".vscode/", ".idea/", ".envrc", "conftest.py"}


def test_of_a_home_folder_all_settings_are_held_back(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(folders.laptop))
    paths = (".bashrc", ".config/autostart/x.desktop", "bin/ls", "Library/LaunchAgents/x.plist")
    for path in (*paths, "work/a.py", "work/.cache/x"):
        plant(folders.host, path)
    folders.once(confirm=lambda _: True)
    assert files(folders.laptop) == {"work/a.py", "work/.cache/x"}


@pytest.mark.parametrize(
    "line", ["*", "**/x.py", "[ab].py", "d/**", "?.py", "\\a.py", "d/[a-c].py", "/d/", "x.py  "]
)
def test_a_pattern_of_any_kind_is_heeded(line: str) -> None:
    """The quick look at names must not miss what git's rules would match."""
    asked, rules = Instructions([line]), Ignore([Source(line)], defaults=False)
    for key in ("a.py", "d/a.py", "d/x.py", "x.py", "d/e/c", "other"):
        assert asked.holds(key, Kind.FILE) == rules.ignores(key, False), key
