"""QMP over a real socket: with servers that lie, stammer, hang up or say nothing, and with a real QEMU."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reconciler.model.errors import QmpError, QmpLostError, QmpTimeoutError
from reconciler.qemu.monitor import CONNECTION_LOST, Monitors
from tests.contract.qemu.fake_qmp import GREETING, Behaviour, FakeQmp, answers, line
from tests.contract.qemu.live import Host, wait_for

SHORT_S = 0.3
Serve = Callable[..., FakeQmp]


class Listened:
    """Monitors, and what they told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []
        self.monitors = Monitors(lambda name, event: self.events.append((name, event)))

    def ask(self, server: FakeQmp, command: str = "query-status", timeout_s: float = 10.0) -> object:
        return self.monitors.execute(server.path.stem, server.path, command, timeout_s=timeout_s)

    def wait_event(self, server: FakeQmp, event: str) -> None:
        wait_for(event, lambda: (server.path.stem, event) in self.events)


@pytest.fixture
def listened() -> Iterator[Listened]:
    listened = Listened()
    yield listened
    listened.monitors.close()


@pytest.fixture
def serve(short_dir: Path) -> Iterator[Serve]:
    """Start a server: serve(name, greeting=…, behave=…)."""
    servers: list[FakeQmp] = []

    def start(name: str, **how: object) -> FakeQmp:
        servers.append(FakeQmp(short_dir / f"{name}.sock", **how))  # type: ignore[arg-type]
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def instead(data: bytes | None) -> Behaviour:
    """Answer every command with these bytes; None: hang up."""
    return lambda _server, _command: data


def test_one_connection_serves_many_commands_and_nothing_else_is_sent(
    listened: Listened, serve: Serve
) -> None:
    server = serve("good")
    assert [listened.ask(server, c) for c in ("query-status", "query-block", "query-status")] == server.seen
    assert server.connections == 1


def test_a_refusal_carries_qemus_class_and_words_and_keeps_the_connection(
    listened: Listened, serve: Serve
) -> None:
    def refuse(_server: FakeQmp, command: dict[str, object]) -> bytes:
        return line({"error": {"class": "CommandNotFound", "desc": "no such thing"}, "id": command["id"]})

    server = serve("refuses", behave=refuse)
    with pytest.raises(QmpError, match="frobnicate: no such thing") as caught:
        listened.ask(server, "frobnicate")
    assert (caught.value.command, caught.value.qmp_class) == ("frobnicate", "CommandNotFound")
    server.behave = answers
    assert listened.ask(server) == "query-status"
    assert server.connections == 1


BROKEN = {
    "garbage": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "not an object": b"[1, 2]\n",
    "binary": bytes(range(256)) + b"\n",
    "deep": b"[" * 100_000 + b"\n",
    "a line of 1 MB": b'{"return": "' + b"x" * 1_000_000 + b'"}\n',
    "an endless line": b"x" * 1_000_000,
    "neither return nor error": b'{"id": "__qmp#00000"}\n',
    "a shapeless error": b'{"id": "__qmp#00000", "error": 5}\n',
    "an error for nobody": b'{"error": {"class": "GenericError", "desc": "parse error"}}\n',
    "an event without a name": b'{"event": null}\n{}\n{"return": 1}\nx\n',
}


@pytest.mark.parametrize("data", [*BROKEN.values(), None], ids=[*BROKEN, "hangs up"])
def test_a_broken_answer_is_a_lost_connection_and_the_next_command_reconnects(
    listened: Listened, serve: Serve, data: bytes | None
) -> None:
    server = serve("broken", behave=instead(data))
    with pytest.raises(QmpLostError, match="query-status: no connection to QEMU"):
        listened.ask(server)
    server.behave = answers
    assert listened.ask(server) == "query-status"
    assert server.connections == 2


@pytest.mark.parametrize(
    "greeting",
    [b"220 mail.example.org ESMTP\n", b"{}\n", b'{"QMP": 5}\n', b"[" * 100_000 + b"\n", b"x" * 1_000_000],
)
def test_a_broken_greeting_is_a_lost_connection(listened: Listened, serve: Serve, greeting: bytes) -> None:
    server = serve("rude", greeting=greeting)
    with pytest.raises(QmpLostError):
        listened.ask(server)
    server.greeting = GREETING
    assert listened.ask(server) == "query-status"


@pytest.mark.parametrize("data", [b"", b'{"return": {"status": "runn'], ids=["silence", "half a line"])
def test_an_answer_that_does_not_come_is_a_timeout(listened: Listened, serve: Serve, data: bytes) -> None:
    server = serve("slow", behave=instead(data))
    began = time.monotonic()
    with pytest.raises(QmpTimeoutError, match=r"query-status: QEMU gave no answer within 0\.3 s"):
        listened.ask(server, timeout_s=SHORT_S)
    assert SHORT_S <= time.monotonic() - began < SHORT_S + 2
    server.behave = answers
    assert listened.ask(server) == "query-status"
    assert server.connections == 2, "a connection of which nobody knows what comes next was used again"


def test_the_deadline_includes_the_greeting(listened: Listened, serve: Serve) -> None:
    with pytest.raises(QmpTimeoutError):
        listened.ask(serve("mute", greeting=None), timeout_s=SHORT_S)


def test_an_answer_that_comes_too_late_is_not_the_next_ones(listened: Listened, serve: Serve) -> None:
    late = threading.Event()

    def slow(_server: FakeQmp, command: dict[str, object]) -> bytes:
        late.wait(60)
        return line({"return": "late", "id": command["id"]})

    server = serve("late", behave=slow)
    with pytest.raises(QmpTimeoutError):
        listened.ask(server, timeout_s=SHORT_S)
    server.behave = answers
    late.set()
    assert listened.ask(server) == "query-status"


@pytest.mark.parametrize("path", ["none.sock", "x" * 120])
def test_a_socket_that_is_not_there_is_a_lost_connection(
    listened: Listened, short_dir: Path, path: str
) -> None:
    with pytest.raises(QmpLostError):
        listened.monitors.execute("vm", short_dir / path, "query-status")


def test_a_hung_vm_delays_no_other(listened: Listened, serve: Serve) -> None:
    hung, good = serve("hung", behave=instead(b"")), serve("good")

    def wait() -> None:
        with pytest.raises(QmpTimeoutError):
            listened.ask(hung, timeout_s=3)

    waiting = threading.Thread(target=wait)
    waiting.start()
    wait_for("the hung one was asked", lambda: hung.seen)
    for _ in range(20):
        assert listened.ask(good) == "query-status"
    assert waiting.is_alive(), "the good one had to wait for the hung one"
    waiting.join()


@pytest.mark.parametrize("babble", [{"event": "RTC_CHANGE", "timestamp": {}}, {}])
def test_a_vm_that_babbles_without_end_starves_no_other(
    listened: Listened, serve: Serve, babble: dict[str, object]
) -> None:
    over = threading.Event()
    flood, good = serve("flood"), serve("good")
    listened.ask(flood)

    def pour() -> None:
        while not over.is_set():
            flood.send(line(babble) * 1000)

    pouring = threading.Thread(target=pour)
    pouring.start()
    for _ in range(100):
        assert listened.ask(good, timeout_s=20) == "query-status"
    over.set()
    pouring.join()


def test_events_tell_name_and_event(listened: Listened, serve: Serve) -> None:
    server = serve("vm-1")
    listened.ask(server)
    server.send(line({"event": "SHUTDOWN", "data": {"guest": True}, "timestamp": {}}))
    listened.wait_event(server, "SHUTDOWN")
    assert listened.events == [("vm-1", "SHUTDOWN")]


def test_events_that_were_told_are_not_kept(listened: Listened, serve: Serve) -> None:
    server = serve("vm-1")
    listened.ask(server)
    server.send(line({"event": "STOP", "timestamp": {}}) * 1000)
    wait_for("all events", lambda: len(listened.events) == 1000)
    link = listened.monitors._sessions["vm-1"]._link
    assert link is not None
    assert link.client.events.history == ()


def test_a_connection_that_ends_while_idle_is_told_and_made_anew_when_needed(
    listened: Listened, serve: Serve
) -> None:
    server = serve("vm-1")
    listened.ask(server)
    server.hang_up()
    listened.wait_event(server, CONNECTION_LOST)
    assert listened.ask(server) == "query-status"
    assert listened.events == [("vm-1", CONNECTION_LOST)]


def test_a_dropped_connection_is_closed_and_not_told(listened: Listened, serve: Serve) -> None:
    server = serve("vm-1")
    listened.ask(server)
    listened.monitors.drop("vm-1")
    listened.monitors.drop("vm-1")
    listened.monitors.drop("never seen")
    assert listened.ask(server) == "query-status"
    assert server.connections == 2
    assert listened.events == []


def test_another_socket_under_the_same_name_is_another_connection(listened: Listened, serve: Serve) -> None:
    before, after = serve("before"), serve("after")
    listened.monitors.execute("vm", before.path, "query-status")
    listened.monitors.execute("vm", after.path, "query-block")
    assert (before.seen, after.seen) == (["query-status"], ["query-block"])


def test_a_listener_that_fails_ends_no_session(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    told = threading.Event()

    def fail(_name: str, _event: str) -> None:
        told.set()
        raise RuntimeError("boom")

    monitors = Monitors(fail)
    server = serve("vm-1")
    monitors.execute("vm-1", server.path, "query-status")
    server.send(line({"event": "STOP", "timestamp": {}}))
    assert told.wait(60)
    assert monitors.execute("vm-1", server.path, "query-status") == "query-status"
    assert server.connections == 1
    monitors.close()
    assert "vm-1: telling of QMP's STOP failed" in caplog.text


def test_many_threads_may_ask_one_vm_at_once(listened: Listened, serve: Serve) -> None:
    server = serve("vm-1")
    got: list[object] = []
    threads = [threading.Thread(target=lambda: got.append(listened.ask(server))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == ["query-status"] * 20
    assert server.connections == 1


def test_after_the_close_every_call_fails_at_once_and_those_under_way_too(serve: Serve) -> None:
    monitors = Monitors(lambda _name, _event: None)
    hung, mute = serve("hung", behave=instead(b"")), serve("mute", greeting=None)
    errors: list[BaseException] = []

    def ask(server: FakeQmp) -> None:
        with pytest.raises(QmpLostError) as caught:
            monitors.execute(server.path.stem, server.path, "query-status", timeout_s=60)
        errors.append(caught.value)

    threads = [threading.Thread(target=ask, args=(server,)) for server in (hung, mute)]
    for thread in threads:
        thread.start()
    wait_for("both are waited for", lambda: hung.seen and mute.connections)
    monitors.close()
    monitors.close()
    for thread in threads:
        thread.join(10)
    assert len(errors) == 2
    with pytest.raises(QmpLostError, match="the agent is ending"):
        monitors.execute("hung", hung.path, "query-status")


def test_losses_are_raised_and_not_logged_besides(
    listened: Listened, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        for data in BROKEN.values():
            server = serve(f"vm{len(data)}", behave=instead(data))
            with pytest.raises(QmpLostError):
                listened.ask(server)
        with pytest.raises(QmpTimeoutError):
            listened.ask(serve("mute", greeting=None), timeout_s=SHORT_S)
        listened.monitors.close()
    assert caplog.records == []


def test_a_real_qemu_that_is_stopped_times_out_and_answers_again_when_it_goes_on(host: Host) -> None:
    vm = host.vm().launch()
    vm.look()
    host.processes.send_signal(vm.handle, signal.SIGSTOP)
    with pytest.raises(QmpTimeoutError):
        host.monitors.execute(vm.name, vm.sockets.qmp, "query-status", timeout_s=SHORT_S)
    with pytest.raises(QmpTimeoutError):
        host.monitors.execute(vm.name, vm.sockets.qmp, "query-status", timeout_s=SHORT_S)
    host.processes.send_signal(vm.handle, signal.SIGCONT)
    assert vm.look().run_state == "prelaunch"


def test_a_descriptor_travels_to_a_real_qemu(host: Host, tmp_path: Path) -> None:
    vm = host.vm().launch()
    with (tmp_path / "file").open("wb") as file:
        added = vm.execute("add-fd", {"opaque": "mine"}, fd=file.fileno())
    assert isinstance(added, dict)
    fdsets = vm.execute("query-fdsets")
    assert isinstance(fdsets, list)
    assert [f["fds"][0]["opaque"] for f in fdsets if f["fdset-id"] == added["fdset-id"]] == ["mine"]


def test_a_loop_that_turns_gives_a_sign_of_life_and_one_that_hangs_none() -> None:
    held, entered = threading.Event(), threading.Event()

    def hang(_name: str, _event: str) -> None:
        entered.set()
        held.wait(30)

    monitors = Monitors(hang)
    try:
        assert monitors.answers(3.0)
        monitors._loop.call_soon_threadsafe(hang, "web", "STOP")  # what an event does that never comes back
        assert entered.wait(60)
        assert not monitors.answers(2.1)
    finally:
        held.set()
        monitors.close()
    assert not monitors.answers(3.0)


def shutdown(reason: str) -> bytes:
    """The event by which QEMU says that it, or its guest, shuts down."""
    data = {"guest": reason.startswith("guest"), "reason": reason}
    return line({"event": "SHUTDOWN", "data": data, "timestamp": {"seconds": 1, "microseconds": 0}})


def test_the_last_reason_to_shut_down_is_remembered_until_the_session_is_dropped(
    listened: Listened, serve: Serve
) -> None:
    server = serve("web")
    listened.ask(server)
    assert listened.monitors.shutdown_reason("web") is None
    server.send(shutdown("guest-shutdown") + shutdown("guest-reset"))
    wait_for("the last", lambda: listened.monitors.shutdown_reason("web") == "guest-reset")
    listened.ask(server)
    assert listened.monitors.shutdown_reason("web") == "guest-reset"
    assert listened.monitors.shutdown_reason("db") is None
    listened.monitors.drop("web")
    assert listened.monitors.shutdown_reason("web") is None


def test_of_a_qemu_that_is_gone_all_is_read_that_it_said(listened: Listened, serve: Serve) -> None:
    """It ends right after it has said why; whoever sees the end first still learns the reason."""
    server = serve("web")
    listened.ask(server)
    server.send(shutdown("guest-shutdown") * 200 + shutdown("host-qmp-quit"))
    server.hang_up()
    assert listened.monitors.last_reason("web") == "host-qmp-quit"
    assert listened.monitors.last_reason("never-seen") is None


def test_only_the_process_that_has_to_be_there_is_spoken_to(listened: Listened, serve: Serve) -> None:
    server = serve("taken-over")
    ours = listened.monitors.session("taken-over", server.path, peer=os.getpid())
    assert ours("query-status") == server.seen[-1]
    other = listened.monitors.session("taken-over", server.path, peer=1)
    with pytest.raises(QmpLostError, match=f"is process {os.getpid()}'s now, not 1's"):
        other("query-status")
    assert len(server.seen) == 1
