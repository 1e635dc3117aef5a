"""The commands that need no agent: validate, schema, version, doctor, and how the command line itself answers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.cli import checks
from reconciler.cli.checks import Finding, Level
from reconciler.cli.config import Config, Host, load
from reconciler.cli.main import COMMANDS, main
from reconciler.cli.manifests import annotation
from reconciler.model.vm import Problem

GOOD = "apiVersion: reconciler/v1\nkind: VirtualMachine\nmetadata:\n  name: {}\nspec:\n  memory: 512\n"
BAD = "apiVersion: reconciler/v1\nkind: VirtualMachine\nmetadata:\n  name: bad\nspec:\n  memory: lots\n"


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_good_manifests_exit_with_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.yaml").write_text(GOOD.format("a"))
    (tmp_path / "sub/b.yml").write_text(GOOD.format("b"))
    (tmp_path / ".hidden.yaml").write_text("[")
    assert run("validate", str(tmp_path)) == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "2 files, 2 VMs, 0 problems" in printed.err


def test_a_bad_manifest_exits_with_1_and_says_file_line_column_field(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(BAD)
    assert run("validate", str(file)) == 1
    assert capsys.readouterr().out.startswith(f"{file}:6:3: spec.memory: ")


def test_two_files_of_one_name_are_a_problem_of_both(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text(GOOD.format("twin"))
    assert run("validate", str(tmp_path), "--format", "json") == 1
    printed = json.loads(capsys.readouterr().out)
    assert [Path(p["file"]).name for p in printed["problems"]] == ["a.yaml", "b.yaml"]
    assert {p["field"] for p in printed["problems"]} == {"metadata.name"}
    assert printed["files"] == 2


def test_the_directory_of_manifests_is_checked_where_no_path_is_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.yaml").write_text(BAD)
    assert run("validate", "--manifests", str(tmp_path)) == 1
    assert "spec.memory" in capsys.readouterr().out


def test_a_path_that_is_not_there_is_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("validate", str(tmp_path / "nope")) == 2
    assert "no such file" in capsys.readouterr().err


def test_annotations_are_escaped_as_github_wants() -> None:
    problem = Problem("a,b:c.yaml", 2, 3, "spec.x", "50%\nof it")
    assert annotation(problem) == "::error file=a%2Cb%3Ac.yaml,line=2,col=3::spec.x: 50%25%0Aof it"


def test_the_schema_is_printed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("schema") == 0
    assert json.loads(capsys.readouterr().out)["$schema"].startswith("https://json-schema.org/")


@pytest.mark.parametrize("arguments", [["frobnicate"], ["get", "--nope"], ["start"], []])
def test_wrong_usage_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) == 2
    assert "Usage" in capsys.readouterr().err


def test_an_option_before_the_command_is_shown_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--run-dir", "/r", "get") == 2
    assert "options stand behind the command: reconciler get --run-dir" in capsys.readouterr().err


def test_a_wrong_setting_exits_with_2_and_names_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("get", "--server", "localhost:3000") == 2
    assert "server: found 'localhost:3000'" in capsys.readouterr().err


@pytest.mark.parametrize("command", list(COMMANDS))
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command, "--help") == 0
    assert "Usage: reconciler" in capsys.readouterr().out


def test_python_m_reconciler_starts_without_the_heavy_modules() -> None:
    code = (
        "import sys; from reconciler.cli.main import main, COMMANDS\n"
        "try: main(['version'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "heavy = {'falcon', 'waitress', 'yaml', 'jsonschema', 'rich', 'qemu', 'watchdog', 'psutil', 'asyncio'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    done = subprocess.run(
        [sys.executable, "-m", "reconciler", "version"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.startswith("reconciler ")


def config(tmp_path: Path, **flags: str) -> Config:
    host = Host({}, is_root=False, home=tmp_path, cwd=tmp_path)
    return load({"manifests": str(tmp_path), "listen": "127.0.0.1:0", **flags}, host)


def levels(findings: list[Finding]) -> set[Level]:
    return {finding.level for finding in findings}


def test_the_doctor_names_the_remedy_of_everything_that_is_not_well(tmp_path: Path) -> None:
    asked = config(tmp_path, qemuBinary="no-such-qemu", manifests="/nope", isoRoots="/nope-iso")
    findings = [finding for check in checks.CHECKS for finding in check(asked)]
    assert all(finding.remedy for finding in findings if finding.level is not Level.OK)
    failed = {finding.what for finding in findings if finding.level is Level.FAIL}
    assert {"qemu", "manifests"} <= failed
    assert Level.WARN in levels(list(checks.iso_roots(asked)))


def test_the_doctor_finds_the_installed_qemu_well(tmp_path: Path) -> None:
    assert levels([*checks.qemu(config(tmp_path)), *checks.qemu_img(config(tmp_path))]) == {Level.OK}


def test_the_doctor_sees_a_run_directory_too_long_for_sockets(tmp_path: Path) -> None:
    assert not list(checks.sockets(config(tmp_path, runDir="/run/r")))
    (finding,) = checks.sockets(config(tmp_path, runDir="/run/" + "x" * 90))
    assert (finding.level, finding.remedy) == (Level.FAIL, "choose a shorter --run-dir")


def test_the_doctor_sees_a_token_that_others_can_read(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("t")
    file.chmod(0o644)
    (finding,) = checks.token(config(tmp_path, tokenFile=str(file)))
    assert finding.level is Level.WARN
    file.chmod(0o600)
    (finding,) = checks.token(config(tmp_path, tokenFile=str(file)))
    assert finding.level is Level.OK


def test_the_doctor_sees_an_open_address_without_a_token(tmp_path: Path) -> None:
    (finding,) = checks.token(config(tmp_path, listen="0.0.0.0:3000"))
    assert finding.level is Level.FAIL


def test_the_doctor_exits_with_1_if_something_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("doctor", "--qemu-binary", "no-such-qemu", "--state-dir", str(tmp_path)) == 1
    printed = capsys.readouterr()
    assert "fail  qemu: there is no program no-such-qemu" in printed.out
    assert "\x1b" not in printed.out
