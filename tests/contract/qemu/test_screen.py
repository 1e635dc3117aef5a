"""Screenshots of a real QEMU."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from reconciler.model.errors import QemuError, QmpError, QmpLostError
from reconciler.qemu.answers import Execute
from reconciler.qemu.screen import HELD_MAX, MARK, SIGNATURE, screenshot
from tests.contract.qemu.live import Host, LiveVM

END = b"IEND\xaeB`\x82"


def fdsets(vm: LiveVM) -> set[str]:
    """The marks of all descriptors that QEMU was handed by QMP."""
    sets = vm.execute("query-fdsets")
    assert isinstance(sets, list)
    return {fd.get("opaque", "") for each in sets for fd in each["fds"]}


def memory_files() -> list[str]:
    """Our own files in memory."""
    links = [os.readlink(p) for p in Path("/proc/self/fd").iterdir() if p.is_symlink()]
    return [link for link in links if "memfd:screenshot" in link]


def failing(execute: Execute, at: str, error: Exception) -> Execute:
    """The same session, in which one command fails."""

    def run(command: str, arguments: Mapping[str, object] | None = None, *, fd: int | None = None) -> object:
        if command == at:
            raise error
        return execute(command, arguments, fd=fd)

    return run


def test_a_screenshot_is_a_whole_png_and_leaves_nothing_behind(host: Host) -> None:
    vm = host.vm().launch()
    vm.execute("cont")
    for _ in range(3):
        data = screenshot(vm.execute)
        assert data.startswith(SIGNATURE)
        assert data.endswith(END)
    assert MARK not in fdsets(vm)
    assert memory_files() == []


def test_of_a_halted_guest_there_are_screenshots_up_to_a_limit_until_it_runs(host: Host) -> None:
    vm = host.vm().launch()
    for _ in range(HELD_MAX):
        screenshot(vm.execute)
    with pytest.raises(QemuError, match="resume it"):
        screenshot(vm.execute)
    vm.execute("cont")
    screenshot(vm.execute)
    assert MARK not in fdsets(vm)


def test_a_guest_that_does_not_run_yet_has_a_screen_and_a_running_one_another(host: Host) -> None:
    vm = host.vm().launch()
    before = screenshot(vm.execute)
    vm.execute("cont")
    seen = threading.Event()
    while screenshot(vm.execute) == before:
        assert vm.state().name == "RUNNING"
        seen.wait(0.05)


def test_a_screendump_that_fails_leaves_nothing_behind(host: Host) -> None:
    vm = host.vm().launch()
    vm.execute("cont")
    refusal = QmpError("screendump", "GenericError", "There is no console to take a screendump from")
    with pytest.raises(QmpError, match="no console"):
        screenshot(failing(vm.execute, "screendump", refusal))
    assert MARK not in fdsets(vm)
    assert memory_files() == []


def test_what_a_screenshot_could_not_give_back_the_next_one_does(host: Host) -> None:
    vm = host.vm().launch()
    vm.execute("cont")
    screenshot(failing(vm.execute, "remove-fd", QmpLostError("the agent is ending")))
    assert MARK in fdsets(vm)
    screenshot(vm.execute)
    assert MARK not in fdsets(vm)


def test_what_is_no_png_is_not_passed_on(host: Host) -> None:
    vm = host.vm().launch()

    def run(command: str, arguments: Mapping[str, object] | None = None, *, fd: int | None = None) -> object:
        changed = {**arguments, "format": "ppm"} if arguments and command == "screendump" else arguments
        return vm.execute(command, changed, fd=fd)

    with pytest.raises(QemuError, match="no PNG"):
        screenshot(run)
