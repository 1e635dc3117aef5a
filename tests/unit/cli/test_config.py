"""Where settings come from, and what is said about a wrong one."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from reconciler.cli.config import Host, load
from reconciler.cli.options import SETTINGS
from reconciler.model.errors import SettingsError


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A plain user with nothing configured."""
    return Host({}, is_root=False, home=tmp_path / "home", cwd=tmp_path / "here")


def with_environ(host: Host, **environ: str) -> Host:
    return Host(environ, host.is_root, host.home, host.cwd)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_flag_beats_the_environment_which_beats_the_file_which_beats_the_default(
    host: Host, tmp_path: Path
) -> None:
    assert load({}, host).settings().listen == "localhost:3000"
    file = str(write(tmp_path / "c.yaml", "listen: localhost:1\nqemuBinary: from-file\nlanguage: en\n"))
    set_ = with_environ(host, RECONCILER_LISTEN="localhost:2", RECONCILER_QEMU_BINARY="from-environ")
    settings = load({"config": file, "listen": "localhost:3"}, set_).settings()
    assert settings.listen == "localhost:3"
    assert settings.qemu_binary == "from-environ"
    assert settings.language == "en"


def test_a_plain_user_has_the_xdg_directories(host: Host) -> None:
    config = load({}, host)
    assert config.manifests == host.home / ".config/reconciler/manifests"
    assert config.state_dir == host.home / ".local/state/reconciler"
    assert config.run_dir == host.home / ".local/state/reconciler/run"
    named = load({}, with_environ(host, XDG_CONFIG_HOME="/c", XDG_STATE_HOME="/s", XDG_RUNTIME_DIR="/r"))
    assert str(named.manifests) == "/c/reconciler/manifests"
    assert str(named.state_dir) == "/s/reconciler"
    assert str(named.run_dir) == "/r/reconciler"


def test_root_has_the_directories_of_the_system(tmp_path: Path) -> None:
    config = load({}, Host({}, is_root=True, home=tmp_path, cwd=tmp_path))
    assert str(config.manifests) == "/etc/reconciler/manifests"
    assert str(config.state_dir) == "/var/lib/reconciler"
    assert str(config.run_dir) == "/run/reconciler"


def test_the_users_own_file_is_read_unasked_and_one_named_must_be_there(host: Host) -> None:
    write(host.home / ".config/reconciler/config.yaml", "workers: 3\n")
    assert load({}, host).settings().workers == 3
    with pytest.raises(SettingsError, match=r"nope\.yaml.*cannot be read"):
        load({"config": "nope.yaml"}, host)
    with pytest.raises(SettingsError, match=r"nope\.yaml.*cannot be read"):
        load({}, with_environ(host, RECONCILER_CONFIG="nope.yaml"))


def test_every_setting_has_a_place_in_the_file(host: Host, tmp_path: Path) -> None:
    text = """
manifests: m
stateDir: /s
runDir: ~/r
listen: localhost:1
tokenFile: t
readTokenFile: r
allowedHosts: [a, b]
allowedOrigins: [https://a]
consoleListen: "::1"
isoRoots: [iso, /srv/iso]
qemuBinary: q
qemuUser: none
language: en
resyncSeconds: 1.5
rescanSeconds: 2
workers: 4
server: http://h:1
"""
    file = write(tmp_path / "etc/c.yaml", text)
    config = load({"config": str(file)}, host)
    assert set(config.given) == set(SETTINGS)
    settings = config.settings()
    assert settings.manifests == tmp_path / "etc/m", "relative to the file"
    assert settings.run_dir == Path("~/r").expanduser()
    assert settings.token_file == tmp_path / "etc/t"
    assert settings.read_token_file == tmp_path / "etc/r"
    assert settings.allowed_hosts == ("a", "b")
    assert settings.allowed_origins == ("https://a",)
    assert settings.iso_roots == (Path("/srv/iso"), Path("/srv/images"), tmp_path / "etc/iso")
    assert (settings.resync_s, settings.rescan_s, settings.workers) == (1.5, 2.0, 4)
    assert settings.qemu_user is None
    assert config.text("server") == "http://h:1"


def test_paths_in_flags_start_where_the_user_stands_and_lists_have_commas(host: Host) -> None:
    flags = {"manifests": "m", "isoRoots": "a, /b", "allowedHosts": "x,y"}
    settings = load(flags, host).settings()
    assert settings.manifests == host.cwd / "m"
    assert settings.iso_roots[2:] == (host.cwd / "a", Path("/b"))
    assert settings.allowed_hosts == ("x", "y")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("listne: x\n", r"c\.yaml:1: listne: there is no such setting; there are manifests, "),
        ("\nworkers: many\n", r"c\.yaml:2: workers: found 'many', expected a whole number above 0"),
        ("workers: 0\n", "expected a whole number above 0"),
        ("workers: true\n", "expected a whole number above 0"),
        ("rescanSeconds: -1\n", "expected a number of seconds above 0"),
        ("manifests: 3\n", "manifests: found 3, expected a path"),
        ("isoRoots: /srv\n", "isoRoots: found '/srv', expected a list of paths"),
        ("allowedHosts: [1]\n", "expected a list of texts"),
        ("listen: [a]\n", "expected text"),
        ("language: fr\n", r"c\.yaml:1: language: found 'fr', expected zh or en"),
        ("- a\n", "expected one document"),
        ("a: 1\n---\nb: 1\n", "expected one document"),
        ("workers: 1\nworkers: 2\n", r"c\.yaml:2"),
        ("workers: [\n", r"c\.yaml:"),
    ],
)
def test_a_wrong_file_is_an_error_that_names_file_line_and_key(
    host: Host, tmp_path: Path, text: str, said: str
) -> None:
    file = write(tmp_path / "c.yaml", text)
    with pytest.raises(SettingsError, match=said):
        load({"config": str(file)}, host).settings()


@pytest.mark.parametrize(
    ("flags", "environ", "said"),
    [
        ({"workers": "x"}, {}, "--workers: found 'x', expected a whole number above 0"),
        ({"workers": "1.5"}, {}, "--workers: found '1.5'"),
        ({"resyncSeconds": "nan"}, {}, "--resync-seconds: found 'nan'"),
        ({}, {"RECONCILER_RESCAN_SECONDS": "soon"}, "RECONCILER_RESCAN_SECONDS: found 'soon'"),
        ({}, {"RECONCILER_LANGUAGE": "fr"}, "RECONCILER_LANGUAGE: found 'fr'"),
    ],
)
def test_a_wrong_flag_or_variable_is_named(
    host: Host, flags: dict[str, str | None], environ: dict[str, str], said: str
) -> None:
    with pytest.raises(SettingsError, match=said):
        load(flags, with_environ(host, **environ)).settings()


def test_an_empty_file_and_an_empty_variable_set_nothing(host: Host, tmp_path: Path) -> None:
    file = write(tmp_path / "c.yaml", "# nothing\n")
    assert load({"config": str(file)}, with_environ(host, RECONCILER_LISTEN="")).listen == "localhost:3000"


def test_root_runs_qemu_as_its_own_user_unless_told_otherwise(tmp_path: Path) -> None:
    root = Host({}, is_root=True, home=tmp_path, cwd=tmp_path)
    me = pwd.getpwuid(os.geteuid())
    found = load({"qemuUser": me.pw_name}, root).settings().qemu_user
    assert found is not None
    assert (found.name, found.uid, found.gid) == (me.pw_name, me.pw_uid, me.pw_gid)
    assert load({"qemuUser": "none"}, root).settings().qemu_user is None
    with pytest.raises(SettingsError, match="there is no user 'no-such-user'"):
        load({"qemuUser": "no-such-user"}, root).settings()


def test_a_plain_user_cannot_run_qemu_as_another(host: Host) -> None:
    assert load({}, host).settings().qemu_user is None
    with pytest.raises(SettingsError, match="--qemu-user: only root"):
        load({"qemuUser": "root"}, host).settings()


def test_flags_and_variables_are_spelled_after_the_key() -> None:
    assert SETTINGS["stateDir"].flag == "--state-dir"
    assert SETTINGS["stateDir"].variable == "RECONCILER_STATE_DIR"
    assert SETTINGS["manifests"].variable == "RECONCILER_MANIFESTS"
