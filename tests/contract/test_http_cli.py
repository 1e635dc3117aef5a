"""The command line against a real server: what it prints where, and with which code it exits."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from reconciler.cli.main import main
from reconciler.model.status import Condition, ConditionType, Truth, VMState
from reconciler.model.vm import PowerState, Problem, VMSpec
from tests.contract.http_support import Http, serving
from tests.contract.memory_controller import Guest, MemoryController, desired

NOW = "2026-01-01T00:00:00.000Z"
OFF = VMSpec(state=PowerState.STOPPED)
Captured = pytest.CaptureFixture[str]


@pytest.fixture
def controller() -> MemoryController:
    return MemoryController()


@pytest.fixture
def http(controller: MemoryController, monkeypatch: pytest.MonkeyPatch) -> Iterator[Http]:
    with serving(controller) as client:
        monkeypatch.setenv("RECONCILER_SERVER", client.url)
        yield client


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.usefixtures("http")
def test_get_prints_a_table_without_colour_when_piped(controller: MemoryController, capsys: Captured) -> None:
    controller.has("web", VMState.RUNNING, tier="web")
    controller.has("a-much-longer-name", VMState.STOPPED, OFF)
    assert run("get") == 0
    printed = capsys.readouterr()
    header, first, second = printed.out.splitlines()
    assert header.split() == ["NAME", "STATUS", "DESIRED", "CPUS", "MEMORY", "VNC", "UPTIME", "NOTE"]
    assert first.split()[:3] == ["a-much-longer-name", "stopped", "stopped"]
    assert second.split()[:3] == ["web", "running", "running"]
    assert "\x1b" not in printed.out
    assert run("get", "-o", "wide") == 0
    assert "tier=web" in capsys.readouterr().out


@pytest.mark.usefixtures("http")
def test_get_prints_what_programs_read(controller: MemoryController, capsys: Captured) -> None:
    controller.has("web", VMState.RUNNING, tier="web")
    controller.has("db", VMState.RUNNING, tier="db")
    assert run("get", "-o", "json") == 0
    assert [vm["name"] for vm in json.loads(capsys.readouterr().out)["vms"]] == ["db", "web"]
    assert run("get", "-o", "yaml", "-l", "tier=web") == 0
    assert [vm["name"] for vm in yaml.safe_load(capsys.readouterr().out)["vms"]] == ["web"]
    assert run("get", "-o", "name", "-l", "tier!=web") == 0
    assert capsys.readouterr().out == "db\n"
    assert run("get", "web", "-o", "json") == 0
    assert json.loads(capsys.readouterr().out)["uuid"] == "6f0e"


@pytest.mark.usefixtures("http")
def test_problems_and_held_removals_are_said_beside_the_data(
    controller: MemoryController, capsys: Captured
) -> None:
    controller.found = (Problem("web.yaml", 7, 3, "spec.memory", "found x"),)
    controller.waiting = {"old"}
    assert run("get") == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "web.yaml:7:3: spec.memory: found x" in printed.err
    assert "removal held: old" in printed.err


@pytest.mark.usefixtures("http")
def test_describe_tells_of_one_vm(controller: MemoryController, capsys: Captured) -> None:
    controller.has("web", VMState.RUNNING)
    assert run("describe", "web") == 0
    assert "running (pid 12345)" in capsys.readouterr().out


@pytest.mark.usefixtures("http")
def test_start_and_stop_say_what_was_reached(controller: MemoryController, capsys: Captured) -> None:
    controller.has("web", VMState.STOPPED, OFF)
    assert run("start", "web") == 0
    assert run("stop", "web") == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines() == ["web: started, pid 12346", "web: stopped"]
    controller.has("stubborn", VMState.RUNNING)
    controller.guests["stubborn"] = Guest.IGNORES
    assert run("stop", "stubborn", "--force") == 0


@pytest.mark.usefixtures("http")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["get", "nope"], "There is no VM of this name"),
        (["start", "nope"], "There is no VM of this name"),
        (["start", "a/../b"], "There is no"),
        (["stop", "off"], "already stopped"),
        (["start", "ill"], "Could not open 'x.iso'"),
        (["restore", "nope"], "nothing of this name"),
    ],
)
def test_a_refusal_exits_with_1_and_says_why(
    controller: MemoryController, capsys: Captured, arguments: list[str], said: str
) -> None:
    controller.has("off", VMState.STOPPED, OFF)
    controller.has("ill", VMState.STOPPED, OFF)
    controller.guests["ill"] = Guest.CANNOT_START
    assert run(*arguments) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert said in printed.err


@pytest.mark.usefixtures("http")
def test_prune_lists_and_releases_only_what_is_confirmed(
    controller: MemoryController, capsys: Captured
) -> None:
    assert run("prune", "--confirm") == 0
    assert "nothing is held" in capsys.readouterr().err
    controller.waiting = {"a", "b"}
    assert run("prune") == 0
    printed = capsys.readouterr()
    assert printed.out == "a\nb\n"
    assert "`reconciler prune --confirm`" in printed.err
    assert controller.held() == ("a", "b")
    assert run("prune", "--confirm") == 0
    assert capsys.readouterr().out == "a\nb\n"
    assert controller.held() == ()


@pytest.mark.usefixtures("http")
def test_prune_says_why_each_removal_is_held(controller: MemoryController, capsys: Captured) -> None:
    controller.has("a", VMState.RUNNING)
    why = "its manifest a.yaml is gone"
    controller.states("a", Condition(ConditionType.PRUNE_HELD, Truth.TRUE, "PruneHeld", why, NOW))
    controller.waiting = {"a"}
    assert run("prune") == 0
    assert f"a: {why}" in capsys.readouterr().err


@pytest.mark.usefixtures("http")
def test_a_name_and_a_selector_together_are_wrong_usage(capsys: Captured) -> None:
    assert run("get", "web", "-l", "tier=web") == 2
    assert "do not go together" in capsys.readouterr().err


@pytest.mark.usefixtures("http")
def test_restore_brings_a_vm_back(controller: MemoryController, capsys: Captured) -> None:
    controller.trash["a"] = desired("a")
    assert run("restore", "a") == 0
    assert "a: restored" in capsys.readouterr().err


def test_the_address_is_read_from_the_run_directory(
    controller: MemoryController, capsys: Captured, tmp_path: Path
) -> None:
    with serving(controller) as client:
        (tmp_path / "agent.json").write_text(json.dumps({"url": client.url, "pid": 1}))
        assert run("get", "--run-dir", str(tmp_path)) == 0
    assert "no VMs" in capsys.readouterr().err
    assert run("get", "--run-dir", str(tmp_path)) == 1
    printed = capsys.readouterr().err
    assert f"no agent answers at {client.url} (Connection refused)" in printed
    assert "`reconciler run` starts one" in printed


def test_the_token_is_read_from_its_file(
    controller: MemoryController, capsys: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    file.write_text("s3cret\n")
    with serving(controller, token_file=file) as client:
        assert run("get", "--server", client.url) == 1
        assert "wants its token" in capsys.readouterr().err
        assert run("get", "--server", client.url, "--token-file", str(file)) == 0
        monkeypatch.setenv("RECONCILER_TOKEN_FILE", str(file))
        assert run("get", "--server", client.url) == 0


def test_the_doctor_sees_a_running_agent(
    http: Http, capsys: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("doctor", "--qemu-binary", "no-such-qemu", "--state-dir", str(tmp_path))
    assert f"ok    agent: one answers at {http.url}" in capsys.readouterr().out
    monkeypatch.delenv("RECONCILER_SERVER")
    run("doctor", "--qemu-binary", "no-such-qemu", "--listen", f"127.0.0.1:{http.port}", "--run-dir", "/nope")
    assert f"ok    agent: one answers at {http.url}" in capsys.readouterr().out


def test_the_doctor_sees_a_stranger_on_the_port(capsys: Captured, tmp_path: Path) -> None:
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        port = stranger.getsockname()[1]
        flags = ["--qemu-binary", "no-such-qemu", "--state-dir", str(tmp_path), "--run-dir", str(tmp_path)]
        assert run("doctor", *flags, "--listen", f"127.0.0.1:{port}") == 1
    assert f"port {port} is taken" in capsys.readouterr().out
