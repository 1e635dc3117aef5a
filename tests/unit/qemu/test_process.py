"""What /proc is taken to say, above all where it says little or nothing."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from reconciler.model.errors import StateError
from reconciler.model.observed import ProcessHandle
from reconciler.qemu.process import Processes, ProcessState, Stat, parse_stat, raise_descriptor_limit

BOOT = "2f9f3b0e-boot"
UUID = "6f1d3c52-0d37-4f0e-9a5c-3f2f6d0c7b11"


def stat_line(letter: str = "S", threads: int = 3, ticks: int = 777, name: str = "vm-web") -> str:
    """A line as the kernel writes it."""
    between = " ".join("0" for _ in range(16))
    return f"4711 ({name}) {letter} {between} {threads} 0 {ticks} 9 9 9\n"


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A /proc of our own."""
    (tmp_path / "sys/kernel/random").mkdir(parents=True)
    (tmp_path / "sys/kernel/random/boot_id").write_text(BOOT + "\n")
    (tmp_path / "self").mkdir()
    (tmp_path / "self/stat").write_text(stat_line())
    return tmp_path


def add(proc: Path, pid: int, line: str, *arguments: str) -> None:
    (proc / str(pid)).mkdir()
    (proc / str(pid) / "stat").write_text(line)
    (proc / str(pid) / "cmdline").write_bytes(b"".join(a.encode() + b"\0" for a in arguments))


@pytest.mark.parametrize("name", ["qemu", "a b", "a) Z 1 (b", ")", "(((", ") T 0 0"])
def test_a_processs_name_may_hold_anything(name: str) -> None:
    assert parse_stat(stat_line("R", ticks=12, name=name).encode()) == Stat(ProcessState.RUNNING, 12)


@pytest.mark.parametrize(
    ("letter", "threads", "state"),
    [
        *((letter, 2, ProcessState.RUNNING) for letter in "RSDIPKWt"),
        *((letter, 2, ProcessState.STOPPED) for letter in "T"),
        *((letter, 1, ProcessState.DEAD) for letter in "ZXx"),
        ("Z", 2, ProcessState.RUNNING),
    ],
)
def test_each_letter_has_its_meaning_and_a_zombie_with_threads_has_not_ended(
    letter: str, threads: int, state: ProcessState
) -> None:
    assert parse_stat(stat_line(letter, threads).encode()).state is state


@pytest.mark.parametrize("text", [b"", b"4711", b"4711 (x", b"4711 (x) S 1", b"4711 (x) S " + b"a " * 30])
def test_a_line_that_is_none_is_not_taken_for_a_death(text: bytes) -> None:
    with pytest.raises(StateError, match="cannot understand"):
        parse_stat(text)


def test_another_boot_another_birth_or_no_process_is_dead(proc: Path) -> None:
    add(proc, 4711, stat_line())
    processes = Processes(proc)
    assert processes.state(ProcessHandle(BOOT, 4711, 777)) is ProcessState.RUNNING
    assert processes.state(ProcessHandle("an earlier boot", 4711, 777)) is ProcessState.DEAD
    assert processes.state(ProcessHandle(BOOT, 4711, 778)) is ProcessState.DEAD
    assert processes.state(ProcessHandle(BOOT, 4712, 777)) is ProcessState.DEAD


def test_a_proc_that_is_not_there_proves_no_death(proc: Path) -> None:
    processes = Processes(proc)
    (proc / "self/stat").unlink()
    with pytest.raises(StateError):
        processes.state(ProcessHandle(BOOT, 4711, 777))
    with pytest.raises(StateError):
        processes.find(UUID)


def test_without_a_boot_id_nothing_is_known(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="boot id"):
        Processes(tmp_path).state(ProcessHandle(BOOT, 4711, 777))


def test_the_boot_id_is_read_once_since_no_agent_outlives_a_boot(proc: Path) -> None:
    add(proc, 4711, stat_line())
    processes = Processes(proc)
    assert processes.boot_id() == BOOT
    (proc / "sys/kernel/random/boot_id").unlink()
    assert processes.state(ProcessHandle(BOOT, 4711, 777)) is ProcessState.RUNNING


def test_the_limit_of_descriptors_is_raised_to_what_the_kernel_allows() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard - 1, hard))
    try:
        raise_descriptor_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_stat_that_cannot_be_read_proves_no_death(proc: Path) -> None:
    (proc / "4711" / "stat").mkdir(parents=True)
    with pytest.raises(StateError, match="4711/stat"):
        Processes(proc).state(ProcessHandle(BOOT, 4711, 777))


def test_a_process_is_found_by_the_exact_pair_of_words(proc: Path) -> None:
    add(proc, 10, stat_line(ticks=1), "qemu-system-x86_64", "-S", "-uuid", UUID, "-m", "1")
    add(proc, 11, stat_line(ticks=2), "qemu-system-x86_64", "-uuid", UUID.replace("6f", "7f"))
    add(proc, 12, stat_line(ticks=3), "grep", f"-uuid {UUID}")
    add(proc, 13, stat_line(ticks=4), "x", UUID, "-uuid")
    add(proc, 14, stat_line("Z", 1, ticks=5), "qemu-system-x86_64", "-uuid", UUID)
    add(proc, 15, stat_line(ticks=6))
    (proc / "16").mkdir()
    assert Processes(proc).find(UUID) == (ProcessHandle(BOOT, 10, 1),)


def test_two_of_one_uuid_are_both_found(proc: Path) -> None:
    for pid in (10, 11):
        add(proc, pid, stat_line(ticks=pid), "qemu", "-uuid", UUID)
    assert {h.pid for h in Processes(proc).find(UUID)} == {10, 11}
