"""Many clients that do at random what clients do: in the end manifests, QEMU and answers agree, and nobody starved."""

from __future__ import annotations

import logging
import random
import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import yaml

from tests.e2e.site import Agent, Site, wait_for

log = logging.getLogger(__name__)

MEMORY = (64, 96, 128)
BUSY = {"VM_START_FAILED", "VM_STOP_FAILED", "VM_CONFIG_FAILED", "ISO_TOGGLE_FAILED"}
REFUSALS = {
    "VM_NOT_FOUND": 404,
    "VM_ALREADY_RUNNING": 400,
    "VM_ALREADY_STOPPED": 400,
    "VM_NOT_RUNNING": 400,
    "INVALID_REQUEST_PARAMS": 400,
    "MANIFEST_INVALID": 400,
    **dict.fromkeys(BUSY, 400),
}
HEALTH_MEDIAN_S = 0.1


def request(dice: random.Random, name: str) -> tuple[str, str, dict[str, Any] | None]:
    """What one client does next."""
    vm = f"/api/vms/{name}"
    return dice.choices(
        [
            ("GET", "/api/vms", None),
            ("GET", vm, None),
            ("GET", f"{vm}/plan", None),
            ("POST", f"{vm}/start", None),
            ("POST", f"{vm}/stop", {"force": dice.random() < 0.8}),
            ("POST", f"{vm}/restart", {"metadata": {"lastPid": None}}),
            ("PUT", f"/vms/{name}/config", {"memory": dice.choice(MEMORY)}),
            ("POST", f"{vm}/toggleMountIso", {"mountStatus": dice.random() < 0.5}),
            ("POST", "/api/vms", body(name)),
            ("DELETE", vm, None),
        ],
        weights=[25, 20, 5, 12, 10, 4, 10, 6, 6, 2],
    )[0]


def body(name: str) -> dict[str, Any]:
    """A small VM without an operating system, which no power button reaches."""
    return {
        "name": name,
        "memory": 64,
        "cpuCores": 1,
        "diskSize": 1,
        "isoPath": "data.iso",
        "shutdown": {"timeoutSeconds": 1},
    }


def crowd(site: Site, agent: Agent, clients: int, requests: int, vms: int, seed: int) -> Counter[str]:
    """So many clients make so many requests each; returns how often each code was answered."""
    names = [f"vm{n}" for n in range(vms)]
    seen: Counter[str] = Counter()

    def client(number: int) -> None:
        dice = random.Random(f"{seed}-{number}")
        for _ in range(requests):
            method, path, sent = request(dice, dice.choice(names))
            status, answer = agent.request(method, path, sent)
            code = answer.get("code", "ok")
            assert answer["success"] is (status < 300), (method, path, status, answer)
            assert status < 300 or REFUSALS.get(code) == status, (method, path, status, answer)
            seen[code] += 1

    with ThreadPoolExecutor(clients) as pool:
        for done in [pool.submit(client, number) for number in range(clients)]:
            done.result()
    return seen


@contextmanager
def health(agent: Agent) -> Iterator[list[float]]:
    """Ask `/healthz` all the while; gives the seconds that each answer took."""
    took: list[float] = []
    over = threading.Event()

    def ask() -> None:
        while not over.wait(0.05):
            began = time.perf_counter()
            assert agent.get("/healthz")[0] == 200
            took.append(time.perf_counter() - began)

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        try:
            yield took
        finally:
            over.set()
            asking.result()


def check_agreement(site: Site, agent: Agent) -> None:
    """What the manifests say, what /proc shows and what the API answers is one and the same."""

    def settled() -> bool:
        return all(vm["status"] in {"running", "stopped"} for vm in agent.get("/api/vms")[1]["vms"])

    wait_for("all is settled", settled, 120)
    answers = {vm["name"]: vm for vm in agent.get("/api/vms")[1]["vms"]}
    manifests = {p.stem: yaml.safe_load(p.read_text())["spec"] for p in site.manifests.iterdir()}
    assert answers.keys() == manifests.keys()
    for name, spec in manifests.items():
        assert answers[name]["status"] == answers[name]["desiredState"] == spec["state"], name
        assert answers[name]["memory"] == spec["memory"], name
        assert len(site.pids(name)) == (spec["state"] == "running"), name
        assert site.pids(name) == ([answers[name]["pid"]] if answers[name]["pid"] else []), name
    ports = [spec["vncPort"] for spec in manifests.values()]
    assert len(ports) == len(set(ports))
    assert agent.get("/api/vms")[1]["problems"] == []


def run(site: Site, clients: int, requests: int, vms: int) -> None:
    """The crowd, the check, and what came of it."""
    seed = random.SystemRandom().randrange(2**32)
    log.info("seed %d", seed)
    site.iso("data")
    agent = site.agent(rescanSeconds=10, language="en")
    for n in range(0, vms, 2):
        assert agent.post("/api/vms", body(f"vm{n}"))[0] == 201
    with health(agent) as took:
        seen = crowd(site, agent, clients, requests, vms, seed)
    median_s = statistics.median(took)
    health_ms = (median_s * 1000, max(took) * 1000, len(took))
    log.info("%s; /healthz: median %.1f ms, longest %.0f ms of %d", seen, *health_ms)
    check_agreement(site, agent)
    assert seen["ok"] > clients * requests / 3
    assert median_s < HEALTH_MEDIAN_S


def test_a_few_clients_leave_all_in_agreement(site: Site) -> None:
    run(site, clients=8, requests=12, vms=3)


@pytest.mark.soak
def test_a_hundred_clients_of_a_hundred_requests_leave_all_in_agreement(site: Site) -> None:
    run(site, clients=100, requests=100, vms=10)
