"""What the service manager hears, on a real socket."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.heartbeat import Manager, Sign, serve

WATCHDOG_S = 0.06


class Listener:
    """The other end: what systemd would hear."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.settimeout(10)

    def hears(self) -> list[str]:
        """The next message, line by line."""
        return self.socket.recv(4096).decode().splitlines()


@pytest.fixture
def address() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="rc-") as directory:
        yield str(Path(directory) / "notify")


@pytest.fixture
def listener(address: str) -> Iterator[Listener]:
    listener = Listener(address)
    yield listener
    listener.socket.close()


def started(manager: Manager, *signs: Sign) -> tuple[threading.Thread, threading.Event]:
    ended = threading.Event()
    thread = threading.Thread(target=serve, args=(manager, signs, ended.wait))
    thread.start()
    return thread, ended


def test_ready_comes_first_then_life_then_the_end(address: str, listener: Listener) -> None:
    thread, ended = started(Manager(address, WATCHDOG_S), Sign("x", lambda: True))
    assert listener.hears() == ["READY=1"]
    assert listener.hears() == ["WATCHDOG=1"]
    assert listener.hears() == ["WATCHDOG=1"]
    ended.set()
    while (heard := listener.hears()) == ["WATCHDOG=1"]:
        pass
    assert heard == ["STOPPING=1"]
    thread.join()


def test_without_every_sign_of_life_nothing_is_claimed(
    address: str, listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    looked, well = threading.Semaphore(0), threading.Event()

    def alive() -> bool:
        looked.release()
        return well.is_set()

    thread, ended = started(
        Manager(address, WATCHDOG_S), Sign("others", lambda: True), Sign("the workers", alive)
    )
    assert listener.hears() == ["READY=1"]
    for _ in range(3):
        assert looked.acquire(timeout=10)
    listener.socket.setblocking(False)
    with pytest.raises(BlockingIOError):
        listener.hears()
    assert "no sign of life of the workers" in caplog.text
    listener.socket.settimeout(10)
    well.set()
    assert listener.hears() == ["WATCHDOG=1"]
    ended.set()
    thread.join()


def test_where_nobody_watches_nobody_is_asked_for_a_sign(address: str, listener: Listener) -> None:
    def asked() -> bool:
        raise AssertionError("nobody wants to know")

    thread, ended = started(Manager(address, None), Sign("x", asked))
    ended.set()
    thread.join()
    assert listener.hears() == ["READY=1"]
    assert listener.hears() == ["STOPPING=1"]


def test_an_abstract_address_is_understood() -> None:
    listener = Listener("\0reconciler-test-notify")
    Manager("@reconciler-test-notify", None).tell("READY=1")
    assert listener.hears() == ["READY=1"]
    listener.socket.close()


def test_a_manager_that_is_gone_is_no_reason_to_end(address: str, caplog: pytest.LogCaptureFixture) -> None:
    Manager(address, None).tell("READY=1")
    assert "cannot be told READY=1" in caplog.text


@pytest.mark.parametrize(
    ("environ", "manager"),
    [
        ({}, Manager(None, None)),
        ({"NOTIFY_SOCKET": ""}, Manager(None, None)),
        ({"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "30000000"}, Manager("/run/n", 30.0)),
        (
            {"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"},
            Manager("/run/n", 30.0),
        ),
        (
            {"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"},
            Manager("/run/n", None),
        ),
        ({"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "0"}, Manager("/run/n", None)),
        ({"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "soon"}, Manager("/run/n", None)),
    ],
)
def test_the_environment_says_who_listens(environ: dict[str, str], manager: Manager) -> None:
    assert Manager.of(environ, 7) == manager


def test_a_signal_ends_the_agent_whichever_thread_the_kernel_hands_it_to() -> None:
    """Here it is one that is not the main thread, which waits meanwhile."""
    program = """if True:
        import signal, threading
        from reconciler.heartbeat import Ending
        ending = Ending()
        def elsewhere():
            signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
        thread = threading.Thread(target=elsewhere)
        assert not ending.wait(0.0)
        thread.start()
        assert ending.wait(None)
    """
    done = subprocess.run([sys.executable, "-c", program], timeout=30, check=False)
    assert done.returncode == 0
