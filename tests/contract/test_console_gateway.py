"""Consoles through a real noVNC service: what a token opens, how long, and what cuts the line."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from reconciler.console.tokens import UNUSED_S, USED_S, digest_of
from reconciler.model.status import VMState
from tests.contract.console_support import FLOOD, GREETING, House, VncServer, open_house
from tests.contract.memory_controller import desired, status_of


@pytest.fixture
def house() -> Iterator[House]:
    with open_house() as house:
        yield house


def age(house: House, token: str, seconds: float) -> None:
    """Make a token older."""
    file = house.layout.consoles.token(digest_of(token))
    entry = json.loads(file.read_text())
    file.write_text(json.dumps(entry | {"grantedS": entry["grantedS"] - seconds}))
    used = house.layout.consoles.used(digest_of(token))
    if used.exists():
        used.write_text(repr(float(used.read_text()) - seconds))


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_token_opens_its_vms_console_at_both_loopbacks(house: House, address: str) -> None:
    if address == "::1" and not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    with closing(house.open(house.consoles.grant("web"), address)) as visitor:
        assert visitor.status == 101
        assert visitor.read() == GREETING
        visitor.write(b"keys")
        assert visitor.read() == b"keys"


def test_a_token_may_be_used_again(house: House) -> None:
    token = house.consoles.grant("web")
    for _ in range(3):
        with closing(house.open(token)) as visitor:
            assert visitor.read() == GREETING


@pytest.mark.parametrize(("used", "seconds"), [(False, UNUSED_S), (True, USED_S)])
def test_an_expired_token_is_refused(house: House, used: bool, seconds: float) -> None:
    token = house.consoles.grant("web")
    if used:
        house.open(token).close()
    age(house, token, seconds)
    with closing(house.open(token)) as visitor:
        assert visitor.status == 403


def test_a_used_token_outlives_five_minutes(house: House) -> None:
    token = house.consoles.grant("web")
    house.open(token).close()
    age(house, token, UNUSED_S + 60)
    with closing(house.open(token)) as visitor:
        assert visitor.read() == GREETING


def test_a_wrong_origin_is_refused_and_spends_nothing(house: House) -> None:
    token = house.consoles.grant("web")
    for origin in ("http://evil.example", "null", f"http://localhost:{house.web_port + 1}"):
        with closing(house.open(token, Origin=origin)) as visitor:
            assert visitor.status == 403
    assert not house.layout.consoles.used(digest_of(token)).exists()
    with closing(house.open(token, Origin="https://panel.example")) as visitor:
        assert visitor.status == 101


def test_a_program_without_an_origin_may(house: House) -> None:
    with closing(house.open(house.consoles.grant("web"), Origin="")) as visitor:
        assert visitor.status == 101


def test_a_stop_revokes_the_token_and_cuts_the_line(house: House) -> None:
    token, others = house.consoles.grant("web"), house.consoles.grant("other")
    with closing(house.open(token)) as visitor, closing(house.open(others)) as neighbour:
        assert visitor.read() == neighbour.read() == GREETING
        house.stops("web")
        assert visitor.read() is None
        neighbour.write(b"still")
        assert neighbour.read() == b"still"
    with closing(house.open(token)) as visitor:
        assert visitor.status == 403


def test_a_line_is_cut_when_its_tokens_time_is_over(house: House) -> None:
    token = house.consoles.grant("web")
    with closing(house.open(token)) as visitor:
        assert visitor.read() == GREETING
        age(house, token, USED_S)
        assert visitor.read() is None


def test_a_stalled_visitor_is_cut_as_well(house: House) -> None:
    token = house.consoles.grant("web")
    with closing(house.open(token, window=65536)) as visitor:
        visitor.write(FLOOD)
        assert house.vnc.flooded.wait(60), (
            "the service takes what the screen sends, and the visitor reads none of it"
        )
        house.stops("web")
        with pytest.raises(ConnectionError):
            visitor.write_for_ever()


def test_a_vm_that_moved_is_found_at_its_new_port(house: House) -> None:
    token = house.consoles.grant("web")
    with VncServer() as moved:
        house.runs("web", moved)
        with closing(house.open(token)) as visitor:
            assert visitor.read() == GREETING
            visitor.write(b"new")
            assert visitor.read() == b"new"


def test_between_two_runs_of_a_restart_the_token_waits(house: House) -> None:
    token = house.consoles.grant("web")
    house.consoles.hear(status_of(desired("web"), "web", VMState.STOPPED))
    assert house.get(f"/websockify/?token={token}")[0] == 503
    with closing(house.open(token)) as visitor:
        assert visitor.status == 503


def test_the_page_may_ask_what_became_of_its_token_without_using_it(house: House) -> None:
    token = house.consoles.grant("web")
    assert house.get(f"/websockify/?token={token}")[0] == 204
    assert not house.layout.consoles.used(digest_of(token)).exists()
    house.consoles.revoke("web")
    assert house.get(f"/websockify/?token={token}")[0] == 403
