"""What follows from a VM's status for its console."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.clock import SystemClock
from reconciler.console.consoles import Consoles
from reconciler.console.services import Services, Setup
from reconciler.console.targets import Targets
from reconciler.console.tokens import Tokens
from reconciler.layout import Layout
from reconciler.lock import start_ticks
from reconciler.model.errors import ConsoleError
from reconciler.model.observed import ProcessHandle
from reconciler.model.status import VMState, VMStatus
from reconciler.model.vm import PowerState, VMSpec
from tests.contract.memory_controller import desired, status_of

STOPPED = VMSpec(state=PowerState.STOPPED)


class World:
    """Consoles on real files, and this process in the place of a QEMU."""

    def __init__(self, root: Path) -> None:
        layout = Layout(root / "state", root / "run")
        names = frozenset({"localhost"})
        self.setup = Setup(layout, ("127.0.0.1",), names, frozenset(), None, "qemu-system-x86_64")
        self.tokens = Tokens(layout.consoles, SystemClock())
        self.targets = Targets(layout.consoles)
        self.consoles = self.agent()

    def agent(self) -> Consoles:
        """The consoles of a new agent."""
        return Consoles(Services(self.setup), self.tokens, self.targets)

    def says(self, state: VMState, spec: VMSpec | None = VMSpec(), *, port: int = 5900) -> None:
        self.consoles.hear(status(state, spec, port))


def status(state: VMState, spec: VMSpec | None, port: int = 5900) -> VMStatus:
    alive = state in {VMState.RUNNING, VMState.STOPPING, VMState.PAUSED, VMState.UNKNOWN}
    ticks = start_ticks(os.getpid())
    assert ticks is not None
    process = ProcessHandle("boot", os.getpid(), ticks) if alive else None
    vm = desired("web", spec) if spec else None
    return replace(status_of(vm, "web", state), process=process, vnc_port=port)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.consoles.close()


def test_a_vm_that_was_not_seen_to_run_gets_no_token(world: World) -> None:
    with pytest.raises(ConsoleError, match="web"):
        world.consoles.grant("web")
    world.says(VMState.STOPPED)
    with pytest.raises(ConsoleError, match="web"):
        world.consoles.grant("web")


def test_without_a_token_nothing_is_written(world: World) -> None:
    world.says(VMState.RUNNING)
    world.says(VMState.STOPPED, STOPPED)
    assert not world.setup.directory.path.exists()


@pytest.mark.parametrize(
    ("state", "spec", "lives"),
    [
        (VMState.STOPPED, STOPPED, False),
        (VMState.FAILED, STOPPED, False),
        (VMState.STOPPED, None, False),
        (VMState.STOPPED, VMSpec(), True),  # between the two runs of a restart
        (VMState.FAILED, VMSpec(), True),  # the next start may work
        (VMState.STARTING, VMSpec(), True),
        (VMState.STOPPING, STOPPED, True),
        (VMState.UNKNOWN, STOPPED, True),
        (VMState.PAUSED, VMSpec(), True),
    ],
)
def test_stop_and_delete_end_a_token_and_nothing_else_does(
    world: World, state: VMState, spec: VMSpec | None, lives: bool
) -> None:
    world.says(VMState.RUNNING)
    token = world.consoles.grant("web")
    world.says(state, spec)
    assert (world.tokens.find(token) is not None) is lives


def test_after_a_restart_the_token_leads_to_the_new_port(world: World) -> None:
    world.says(VMState.RUNNING)
    world.consoles.grant("web")
    assert (found := world.targets.find("web"))
    assert found.port == 5900
    world.says(VMState.STOPPED)
    assert world.targets.find("web") is None
    world.says(VMState.RUNNING, port=5907)
    assert (found := world.targets.find("web"))
    assert found.port == 5907


def test_not_knowing_changes_nothing(world: World) -> None:
    world.says(VMState.RUNNING)
    world.consoles.grant("web")
    world.consoles.hear(replace(status(VMState.UNKNOWN, VMSpec()), process=None, vnc_port=None))
    assert world.targets.find("web") is not None


def test_the_next_agent_ends_the_tokens_of_a_vm_that_stopped_meanwhile(world: World) -> None:
    world.says(VMState.RUNNING)
    token = world.consoles.grant("web")
    heir = world.agent()
    heir.hear(status(VMState.STOPPED, STOPPED))
    assert world.tokens.find(token) is None


def test_a_port_whose_qemu_is_gone_is_nobodys_console(world: World) -> None:
    world.says(VMState.RUNNING)
    world.consoles.grant("web")
    file = world.setup.directory.target("web")
    ticks = start_ticks(os.getpid())
    file.write_text(file.read_text().replace(f'"start_ticks": {ticks}', '"start_ticks": 1'))
    assert world.targets.find("web") is None


@pytest.mark.parametrize("port", [22, 0, -1, 65536, 5899])
def test_a_target_is_never_below_the_vnc_ports(world: World, port: int) -> None:
    world.says(VMState.RUNNING)
    world.consoles.grant("web")
    world.says(VMState.RUNNING, port=port)
    assert world.targets.find("web") is None


@pytest.mark.parametrize("name", ["../web", "", ".", "a/b", "a\0b"])
def test_a_name_that_is_none_has_no_target(world: World, name: str) -> None:
    assert world.targets.find(name) is None
