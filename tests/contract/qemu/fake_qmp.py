"""A QMP server on a real socket that misbehaves as it is told."""

from __future__ import annotations

import json
import queue
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

GREETING = b'{"QMP": {"version": {"qemu": {"major": 7}}, "capabilities": []}}\n'
Behaviour = Callable[["FakeQmp", dict[str, object]], bytes | None]


def answers(server: FakeQmp, command: dict[str, object]) -> bytes:
    """Be good: every command returns its own name."""
    return line({"return": command["execute"], "id": command["id"]})


def line(message: object) -> bytes:
    return json.dumps(message).encode() + b"\n"


class FakeQmp:
    """Serves one client at a time. `behave` gives the bytes to answer a command with; None: close.

    `greeting` None says nothing at all. `seen` holds every command that came, after qmp_capabilities.
    """

    def __init__(self, path: Path, greeting: bytes | None = GREETING, behave: Behaviour = answers) -> None:
        self.path = path
        self.greeting = greeting
        self.behave = behave
        self.seen: list[str] = []
        self.connections = 0
        self._clients: queue.Queue[socket.socket] = queue.Queue()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(8)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def send(self, data: bytes) -> None:
        """Say something unasked, to the client that is connected."""
        client = self._clients.get(timeout=60)
        client.sendall(data)
        self._clients.put(client)

    def hang_up(self) -> None:
        """End the connection."""
        self._clients.get(timeout=60).shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        while not self._clients.empty():
            self._clients.get().shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            with client:
                self._clients.put(client)
                try:
                    self._talk(client)
                except OSError:
                    pass
                finally:
                    self._clients = queue.Queue()

    def _talk(self, client: socket.socket) -> None:
        if self.greeting is not None:
            client.sendall(self.greeting)
        for command in _commands(client):
            if command["execute"] == "qmp_capabilities":
                client.sendall(line({"return": {}, **({"id": command["id"]} if "id" in command else {})}))
                continue
            self.seen.append(str(command["execute"]))
            answer = self.behave(self, command)
            if answer is None:
                return
            client.sendall(answer)


def _commands(client: socket.socket) -> Iterator[dict[str, object]]:
    """The objects that come; as QEMU, without counting on a line's end between them."""
    text = ""
    while data := client.recv(65536):
        text += data.decode()
        while text := text.lstrip():
            try:
                command, end = json.JSONDecoder().raw_decode(text)
            except ValueError:
                break
            text = text[end:]
            yield command
