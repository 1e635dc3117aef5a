"""A whole site for one test: directories, manifests, a real agent as a process, and real QEMUs.

What is true of QEMU is read from /proc and from the guests' own consoles here, never from the agent's answers.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import yaml

from reconciler.console.services import end_all
from reconciler.layout import ConsoleDir
from reconciler.network import nft
from tests import conformity

REPOSITORY = Path(__file__).resolve().parents[2]
GUESTS = REPOSITORY / ".local" / "guest"
QMP_TIMEOUT_S = 60.0
PATIENCE_S = 60.0  # a bound for what takes a second or two; the machine may be slow, and shared
T = TypeVar("T")

_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw") or 0)
_ports = itertools.count(20000 + 400 * _worker)


def free_port() -> int:
    """A port that no other test of this run is given, and nobody listens on."""
    while True:
        port = next(_ports)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def wait_for(what: str, look: Callable[[], T], timeout_s: float = PATIENCE_S) -> T:
    """Look until there is something to see; fails with `what` when the time is over."""
    deadline = time.monotonic() + timeout_s
    while not (seen := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s:g} s for: {what}")
        time.sleep(0.01)
    return seen


class Agent:
    """One agent process."""

    def __init__(self, command: list[str], log: Path, run_dir: Path) -> None:
        self._address = run_dir / "agent.json"
        self._address.unlink(missing_ok=True)
        self.log = log
        with log.open("ab") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL)

    def wait_ready(self) -> Agent:
        """Wait until it has looked at every VM once."""

        def ready() -> bool:
            if self.process.poll() is not None:
                raise AssertionError(f"the agent ended:\n{self.log.read_text()}")
            with contextlib.suppress(OSError, ValueError):
                return self.get("/readyz")[0] == 200
            return False

        try:
            wait_for("the agent is ready", ready)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log.read_text()}") from error
        return self

    @property
    def url(self) -> str:
        """Where its API listens."""
        return str(json.loads(self._address.read_text())["url"])

    def get(self, path: str) -> tuple[int, Any]:
        """GET; status and decoded body."""
        return self.request("GET", path)

    def post(self, path: str, body: object = None) -> tuple[int, Any]:
        """POST; status and decoded body."""
        return self.request("POST", path, body)

    def request(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """One request to the API; its answer is as documented."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} if data else {}
        request = urllib.request.Request(self.url + path, data, headers, method=method)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310
                status, found = answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            status, found = error.code, json.load(error)
        conformity.check(method, path, status, "application/json", found)
        return status, found

    def vm(self, name: str) -> dict[str, Any]:
        """What the agent says of one VM; empty where it knows none."""
        status, answer = self.get(f"/api/vms/{name}")
        return dict(answer["vm"]) if status == 200 else {}

    def condition(self, name: str, kind: str) -> dict[str, str]:
        """One condition of a VM; empty where it is not stated."""
        return next((c for c in self.vm(name).get("conditions", []) if c["type"] == kind), {})

    def wait_status(self, name: str, status: str, timeout_s: float = PATIENCE_S) -> dict[str, Any]:
        """Wait until the agent says this status of a VM."""
        wait_for(f"{name} is {status}", lambda: self.vm(name).get("status") == status, timeout_s)
        return self.vm(name)

    def kill(self) -> None:
        """SIGKILL, as the OOM killer would."""
        self.process.kill()
        self.process.wait(60)

    def stop(self) -> int:
        """SIGTERM, as systemd would; returns the exit status."""
        self.process.terminate()
        return self.process.wait(60)


class Site:
    """Directories of one test, and what was started in them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.manifests = root / "manifests"
        self.state = root / "state"
        # Short, so that the sockets' paths stay below their limit wherever the tests' own directories lie.
        self.run = Path(tempfile.mkdtemp(prefix="rc-"))
        self.config = root / "config.yaml"
        self._agents: list[Agent] = []
        self.manifests.mkdir()
        (self.state / "iso").mkdir(parents=True)

    # ---- the agent ------------------------------------------------------------------------------

    def command(self, **options: object) -> list[str]:
        """The command line of an agent for this site; options go into its config file."""
        settings = {"rescanSeconds": 1, **options}
        self.config.write_text(yaml.safe_dump(settings))
        where = ["--manifests", self.manifests, "--state-dir", self.state, "--run-dir", self.run]
        words = ["run", "--config", self.config, *where, "--listen", "127.0.0.1:0"]
        return [sys.executable, "-m", "reconciler", *map(str, words)]

    def agent(self, **options: object) -> Agent:
        """Start an agent and wait until it is ready."""
        return self.start(self.command(**options)).wait_ready()

    def start(self, command: list[str]) -> Agent:
        """Start an agent by its command line, and do not wait."""
        agent = Agent(command, self.root / "agent.log", self.run)
        self._agents.append(agent)
        return agent

    # ---- manifests --------------------------------------------------------------------------------

    def iso(self, variant: str, name: str | None = None) -> str:
        """Put a test guest's ISO into the site; returns its name for `isoPath`."""
        name = name or f"{variant}.iso"
        target = self.state / "iso" / name
        if not target.exists():
            shutil.copyfile(GUESTS / f"{variant}.iso", target)
        return name

    def text(self, name: str, **spec: object) -> str:
        """A manifest of a small VM, with these fields on top."""
        small: dict[str, object] = {"memory": 128, "cpuCores": 1, "diskSize": 1, "vncPort": free_port()}
        body = {
            "apiVersion": "reconciler/v1",
            "kind": "VirtualMachine",
            "metadata": {"name": name},
            "spec": {**small, **spec},
        }
        return yaml.safe_dump(body, sort_keys=False)

    def write(self, name: str, **spec: object) -> Path:
        """Write a manifest by rename, as a good editor would."""
        path = self.manifests / f"{name}.yaml"
        aside = self.root / f".{name}.new"
        aside.write_text(self.text(name, **spec))
        aside.replace(path)
        return path

    def edit(self, name: str, **changes: object) -> None:
        """Change fields of a manifest; None removes one."""
        path = self.manifests / f"{name}.yaml"
        body = yaml.safe_load(path.read_text())
        body["spec"].update(changes)
        body["spec"] = {key: value for key, value in body["spec"].items() if value is not None}
        aside = self.root / f".{name}.new"
        aside.write_text(yaml.safe_dump(body, sort_keys=False))
        aside.replace(path)

    # ---- what is true -------------------------------------------------------------------------------

    def identity(self, name: str) -> dict[str, Any]:
        """The identity that the agent wrote down; empty before there is one."""
        path = self.state / "vms" / name / "identity.json"
        return dict(json.loads(path.read_text())) if path.exists() else {}

    def pids(self, name: str) -> list[int]:
        """The live QEMUs of a VM, found by UUID in /proc."""
        uuid = self.identity(name).get("uuid")
        return [pid for pid, found in _qemus() if found == uuid]

    def pid(self, name: str) -> int:
        """The one QEMU of a VM."""
        (pid,) = self.pids(name)
        return pid

    def serial(self, name: str) -> str:
        """All that the guest said on its serial console."""
        path = self.state / "vms" / name / "serial.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def wait_serial(self, name: str, words: str, timeout_s: float = 100.0, times: int = 1) -> None:
        """Wait until the guest has said these words so many times."""
        wait_for(f"{name} says {words!r}", lambda: self.serial(name).count(words) >= times, timeout_s)

    def qmp(self, name: str, *commands: dict[str, Any]) -> list[Any]:
        """Ask QEMU by its second QMP socket, as a person would; returns the answers."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(QMP_TIMEOUT_S)
            client.connect(str(self.run / "by-name" / name / "human.sock"))
            stream = client.makefile("rw")
            stream.readline()
            answers = []
            for command in ({"execute": "qmp_capabilities"}, *commands):
                stream.write(json.dumps(command) + "\n")
                stream.flush()
                while "event" in (answer := json.loads(stream.readline())):
                    pass
                answers.append(answer)
            return answers[1:]

    # ---- the end --------------------------------------------------------------------------------------

    def close(self) -> None:
        """End everything that this test started."""
        for agent in self._agents:
            if agent.process.poll() is None:
                agent.kill()
        uuids = {
            json.loads(path.read_text())["uuid"]
            for folder in ("vms", "trash")
            for path in (self.state / folder).glob("*/identity.json")
        }
        for pid, uuid in _qemus():
            if uuid in uuids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        wait_for("every QEMU of the test is gone", lambda: not any(u in uuids for _, u in _qemus()), 60)
        end_all(ConsoleDir(self.run / "consoles"))
        shutil.rmtree(self.run, ignore_errors=True)
        if os.geteuid() == 0 and nft.listing(nft.table_name(self.state)):
            nft.apply(f"delete table inet {nft.table_name(self.state)}")


def _qemus() -> list[tuple[int, str]]:
    """Every live process with a `-uuid` on its command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if b"-uuid" in words and (entry / "stat").read_text().rsplit(")", 1)[1].split()[0] != "Z":
                found.append((int(entry.name), words[words.index(b"-uuid") + 1].decode()))
    return found
