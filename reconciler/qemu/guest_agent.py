"""Asking the agent inside a guest (qemu-guest-agent), over the socket of its virtio-serial port.

The guest may answer anything, late, or never: each conversation is short, has a deadline, and nothing in it is
believed. The socket serves one client at a time. Used for what only the guest can do: take a CPU core out of use.
"""

from __future__ import annotations

import itertools
import json
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path

from reconciler.model.errors import GuestAgentError
from reconciler.qemu.answers import mapping, mappings, member

TIMEOUT_S = 1.0
ANSWER_MAX_BYTES = 64 * 1024
DELIMITER = b"\xff"

_syncs = itertools.count(int.from_bytes(os.urandom(3)))


def online_cpus(path: Path) -> int:
    """How many cores the guest uses. Raises GuestAgentError."""
    with _Conversation(path) as agent:
        return sum(
            cpu.get("online") is True for cpu in mappings(agent.ask("guest-get-vcpus"), "guest-get-vcpus")
        )


def set_online_cpus(path: Path, count: int) -> None:
    """Let the guest use so many cores: the last ones are given up first, the first taken back first.

    Raises GuestAgentError, also where the guest keeps more than that.
    """
    with _Conversation(path) as agent:
        cpus = mappings(agent.ask("guest-get-vcpus"), "guest-get-vcpus")
        cpus.sort(key=lambda cpu: member(cpu, "logical-id", int, "guest-get-vcpus"))
        online = [cpu for cpu in cpus if cpu.get("online") is True]
        movable = [cpu for cpu in reversed(online) if cpu.get("can-offline") is True]
        offline = [cpu for cpu in cpus if cpu.get("online") is not True]
        surplus = len(online) - count
        chosen = movable[:surplus] if surplus > 0 else offline[:-surplus]
        changes = [{"logical-id": cpu["logical-id"], "online": surplus < 0} for cpu in chosen]
        done = agent.ask("guest-set-vcpus", {"vcpus": changes}) if changes else 0
        if done != abs(surplus):
            raise GuestAgentError(f"the guest changed {done} of {abs(surplus)} cores")


class _Conversation:
    """A connection to the agent, in step with it: what an earlier client left unread is thrown away first."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._deadline = time.monotonic() + TIMEOUT_S
        self._rest = b""

    def __enter__(self) -> _Conversation:
        self._line = socket.socket(socket.AF_UNIX)
        try:
            self._line.settimeout(TIMEOUT_S)
            self._line.connect(os.fspath(self._path))
            number = next(_syncs)
            self._send("guest-sync-delimited", {"id": number}, DELIMITER)
            self._read_until(DELIMITER)
            if self._answer("guest-sync-delimited") != number:
                raise GuestAgentError("the guest agent is out of step")
        except OSError as error:
            self._line.close()
            raise GuestAgentError(f"the guest agent does not answer: {error}") from error
        except BaseException:
            self._line.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._line.close()

    def ask(self, command: str, arguments: Mapping[str, object] | None = None) -> object:
        """One command's answer. Raises GuestAgentError."""
        try:
            self._send(command, arguments)
            return self._answer(command)
        except OSError as error:
            raise GuestAgentError(f"{command}: the guest agent does not answer: {error}") from error

    def _send(self, command: str, arguments: Mapping[str, object] | None, before: bytes = b"") -> None:
        words = {"execute": command, **({"arguments": arguments} if arguments else {})}
        self._line.sendall(before + json.dumps(words).encode() + b"\n")

    def _answer(self, command: str) -> object:
        line = self._read_until(b"\n")
        try:
            answer = mapping(json.loads(line), command)
        except (ValueError, RecursionError) as error:
            raise GuestAgentError(f"{command}: the guest's answer is not understood") from error
        if "error" in answer:
            raise GuestAgentError(f"{command}: {answer['error']!r:.200}")
        return answer.get("return")

    def _read_until(self, mark: bytes) -> bytes:
        while mark not in self._rest:
            left_s = self._deadline - time.monotonic()
            if left_s <= 0 or len(self._rest) > ANSWER_MAX_BYTES:
                raise GuestAgentError("the guest agent gave no answer in time")
            self._line.settimeout(left_s)
            data = self._line.recv(4096)
            if not data:
                raise GuestAgentError("the guest agent hung up")
            self._rest += data
        found, _, self._rest = self._rest.partition(mark)
        return found
