"""The process of a noVNC service: started, taken over, replaced, brought back, and when it ends by itself."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler import lock
from reconciler.console.services import SERVICES_MAX, Services
from reconciler.lock import AgentLock, start_ticks
from reconciler.model.console import Gateway
from reconciler.model.errors import ConsoleError
from tests.contract.console_support import GREETING, House, open_house
from tests.e2e.site import free_port, wait_for


@pytest.fixture
def house() -> Iterator[House]:
    with open_house() as house:
        yield house


def test_no_token_stands_in_a_log_or_a_command_line(house: House) -> None:
    token = house.consoles.grant("web")
    with closing(house.open(token)) as visitor:
        visitor.read()
        house.get(f"/websockify/?token={token}")
        house.get(f"/nothing?token={token}")
        house.open(token, Origin="http://evil.example").close()
        log = house.layout.consoles.log(house.web_port)
        wait_for("the console is in the log", lambda: "web: a console was opened" in log.read_text())
        assert token not in log.read_text()
        assert token not in Path(f"/proc/{house.gateway.pid}/cmdline").read_text()
        assert token not in Path(f"/proc/{house.gateway.pid}/environ").read_text()


def test_there_is_one_service_for_a_port(house: House) -> None:
    assert house.services.serve(house.web_port) == house.gateway


def test_another_agent_takes_it_over_with_its_consoles(house: House) -> None:
    with closing(house.open(house.consoles.grant("web"))) as visitor:
        assert visitor.read() == GREETING
        assert Services(house.setup).serve(house.web_port) == house.gateway
        visitor.write(b"on")
        assert visitor.read() == b"on"


def test_with_other_settings_it_is_replaced(house: House) -> None:
    heir = Services(replace(house.setup, origins=frozenset({"https://other.example"})))
    found = heir.serve(house.web_port)
    assert found.pid != house.gateway.pid
    wait_for("the old one is gone", lambda: start_ticks(house.gateway.pid) is None)
    house.gateway = found
    with closing(house.open(house.consoles.grant("web"), Origin="https://other.example")) as visitor:
        assert visitor.status == 101


def test_one_that_was_killed_comes_back_while_a_token_lives(house: House) -> None:
    token = house.consoles.grant("web")
    house.consoles.resume()
    os.kill(house.gateway.pid, signal.SIGKILL)
    path = house.layout.consoles.lock(house.web_port)

    def heir() -> lock.Holder | None:
        found = lock.holder(path)
        return found if found and found.pid != house.gateway.pid else None

    found = wait_for("the service is back", heir)
    assert found
    house.gateway = Gateway(found.pid, house.web_port)
    with closing(house.open(token)) as visitor:
        assert visitor.read() == GREETING


def test_a_port_that_a_stranger_holds_is_named(house: House) -> None:
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        port = stranger.getsockname()[1]
        with pytest.raises(ConsoleError, match=f"port {port} is taken"):
            house.services.serve(port)
    assert port not in house.layout.consoles.web_ports()


def test_more_than_eight_are_refused(house: House) -> None:
    for _ in range(SERVICES_MAX - 1):
        house.services.serve(free_port())
    with pytest.raises(ConsoleError, match="8 noVNC services"):
        house.services.serve(free_port())
    assert house.services.serve(house.web_port) == house.gateway


def test_it_ends_when_its_directory_goes(house: House) -> None:
    shutil.rmtree(house.layout.consoles.path)
    wait_for("it ended", lambda: start_ticks(house.gateway.pid) is None)


def test_without_an_agent_and_a_visitor_it_ends_by_itself(house: House) -> None:
    short = Services(replace(house.setup, linger_s=2))
    with AgentLock(house.layout.lock):
        found = short.serve(house.web_port)
        # The agent is there for longer than it would linger without.
        deadline = time.monotonic() + 4
        wait_for("time passes", lambda: time.monotonic() > deadline)
        assert start_ticks(found.pid) is not None
        with closing(house.open(house.consoles.grant("web"))) as visitor:
            assert visitor.read() == GREETING
    wait_for("it ended", lambda: start_ticks(found.pid) is None)
    assert house.layout.consoles.web_ports() == ()


def test_an_open_console_keeps_it_alive_without_an_agent(house: House) -> None:
    found = Services(replace(house.setup, linger_s=1)).serve(house.web_port)
    with closing(house.open(house.consoles.grant("web"))) as visitor:
        assert visitor.read() == GREETING
        deadline = time.monotonic() + 3
        wait_for("time passes", lambda: time.monotonic() > deadline)
        visitor.write(b"here")
        assert visitor.read() == b"here"
    wait_for("it ended", lambda: start_ticks(found.pid) is None)
