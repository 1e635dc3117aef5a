"""The book of VNC ports: claims first, then who runs, then what was chosen before."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from reconciler.converge.ports import VncPorts
from reconciler.model.errors import PortConflictError


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that a stranger listens on, at or above VNC's first."""
    for port in range(5900, 6000):
        listener = socket.socket()
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            listener.close()
            continue
        listener.listen()
        yield port
        listener.close()
        return


def test_a_claimed_port_is_held_as_it_is() -> None:
    assert VncPorts(dict).take("a", 5999) == 5999


def test_the_vm_that_runs_keeps_a_port_that_another_claims() -> None:
    ports = VncPorts(dict)
    ports.take("a", 5999)
    with pytest.raises(PortConflictError, match="'a'"):
        ports.take("b", 5999)
    ports.release("a")
    assert ports.take("b", 5999) == 5999


def test_a_chosen_port_avoids_claims_strangers_and_the_ports_of_others(taken: int) -> None:
    ports = VncPorts(lambda: {taken + 1: ("x",)})
    first, second = ports.take("a", None), ports.take("b", None)
    assert len({first, second, taken, taken + 1}) == 4


def test_a_chosen_port_is_kept_over_a_stop_and_given_to_nobody_else() -> None:
    ports = VncPorts(dict)
    chosen = ports.take("a", None)
    ports.release("a")
    assert ports.take("b", None) != chosen
    assert ports.take("a", None) == chosen


def test_a_claim_takes_a_chosen_port_from_a_vm_that_does_not_run() -> None:
    claims: dict[int, tuple[str, ...]] = {}
    ports = VncPorts(lambda: claims)
    chosen = ports.take("a", None)
    ports.release("a")
    claims[chosen] = ("b",)
    assert ports.take("b", chosen) == chosen
    assert ports.take("a", None) != chosen


def test_what_was_loaded_from_records_counts() -> None:
    ports = VncPorts(dict)
    ports.load("a", held=5998, chosen=5998)
    with pytest.raises(PortConflictError):
        ports.take("b", 5998)
    ports.forget("a")
    assert ports.take("b", 5998) == 5998
