"""The units, judged by systemd itself; `systemd install` on a directory that stands for a host."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.cli.units import AGENT, GUESTS, Place, units

PLACE = Place(
    program=("/usr/bin/reconciler",),
    manifests=Path("/etc/reconciler/manifests"),
    state_dir=Path("/var/lib/reconciler"),
    run_dir=Path("/run/reconciler"),
    flags=(),
    uses=(Path("/usr"),),
)
SOMEBODY = pwd.getpwuid(os.getuid()).pw_name
ROOT_EXPOSURE, USER_EXPOSURE = 32, 21  # tenths; systemd's scale ends at 10.0, most services are at 9.6


def reconciler(*words: str | Path, code: int = 0) -> str:
    """Run a command; what it says, data and words for people."""
    command = [sys.executable, "-m", "reconciler", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def install(root: Path, *words: str, code: int = 0) -> str:
    return reconciler("systemd", "install", "--root", root, *words, code=code)


def unit_files(root: Path) -> list[Path]:
    return [root / "etc/systemd/system" / name for name in (AGENT, GUESTS)]


def tree(root: Path) -> dict[str, tuple[int, int]]:
    return {str(p.relative_to(root)): (p.stat().st_mode, p.stat().st_mtime_ns) for p in root.rglob("*")}


@pytest.mark.parametrize("variant", [(), ("--user", SOMEBODY)])
def test_systemd_finds_nothing_wrong_with_what_is_installed(tmp_path: Path, variant: tuple[str, ...]) -> None:
    install(tmp_path, *variant)
    files = unit_files(tmp_path)
    command = ["systemd-analyze", "verify", "--man=no", *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("name", [AGENT, GUESTS])
@pytest.mark.parametrize(
    ("place", "limit"),
    [(PLACE, ROOT_EXPOSURE), (replace(PLACE, user="somebody", groups=("kvm",)), USER_EXPOSURE)],
    ids=["root", "user"],
)
def test_the_units_expose_as_little_as_was_promised(
    tmp_path: Path, name: str, place: Place, limit: int
) -> None:
    file = tmp_path / name
    file.write_text(units(place)[name])
    command = [
        "systemd-analyze",
        "security",
        "--no-pager",
        "--offline=true",
        f"--threshold={limit}",
        str(file),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout.splitlines()[-1]


def test_a_second_install_changes_nothing_and_says_so(tmp_path: Path) -> None:
    said = install(tmp_path)
    assert f"{tmp_path}/etc/systemd/system/reconciler.service written" in said
    assert f"systemctl enable --now {AGENT}" in said
    before = tree(tmp_path)
    assert "reconciler.service is as it should be" in install(tmp_path)
    assert tree(tmp_path) == before


def test_the_directories_are_made_closed_and_those_that_are_there_stay(tmp_path: Path) -> None:
    manifests = tmp_path / "etc/reconciler/manifests"
    manifests.mkdir(parents=True, mode=0o750)
    install(tmp_path)
    assert manifests.stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "var/lib/reconciler").stat().st_mode & 0o777 == 0o700
    assert not (tmp_path / "run").exists()  # systemd's to make


def test_a_dry_run_tells_and_writes_nothing(tmp_path: Path) -> None:
    assert "reconciler-guests.service would be written" in install(tmp_path, "--dry-run")
    assert tree(tmp_path) == {}


def test_what_is_printed_is_what_is_installed(tmp_path: Path) -> None:
    install(tmp_path)
    printed = reconciler("systemd", "print")
    for file in unit_files(tmp_path):
        assert file.read_text() in printed


def test_the_units_name_this_program_and_what_was_given_here(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("listen: 127.0.0.1:3100\n")
    printed = reconciler(
        "systemd", "print", "--config", config, "--language", "en", "--state-dir", "/srv/vm s%"
    )
    (run,) = (line for line in printed.splitlines() if line.startswith("ExecStart=") and " run " in line)
    assert f"--config {config} --language en" in run
    assert '--state-dir "/srv/vm s%%"' in run
    program = Path(run.removeprefix("ExecStart=").split()[0])
    assert (
        subprocess.run([program, "--version"], check=False, capture_output=True, timeout=60).returncode == 0
    )


def test_a_user_that_does_not_exist_is_an_error_that_says_how_to_make_one(tmp_path: Path) -> None:
    assert "useradd --system" in install(tmp_path, "--user", "no-such-user", code=2)
    assert tree(tmp_path) == {}
