"""Looking closer at a VM of a real agent: its logs, its screen, its host."""

from __future__ import annotations

import urllib.request

from reconciler.qemu.screen import SIGNATURE
from tests.e2e.site import Agent, Site


def screenshot(agent: Agent, name: str) -> bytes:
    with urllib.request.urlopen(f"{agent.url}/api/vms/{name}/screenshot", timeout=30) as answer:  # noqa: S310
        assert answer.headers["Content-Type"] == "image/png"
        return bytes(answer.read())


def test_log_screen_and_host_of_a_running_vm(site: Site) -> None:
    site.write("web", isoPath=site.iso("demo"))
    site.write("off", state="stopped")
    agent = site.agent()
    agent.wait_status("web", "running")
    site.wait_serial("web", "GUEST-READY")

    log = agent.get("/api/vms/web/log?tail=3")[1]
    assert "GUEST-READY" in log["serial"]
    assert log["serial"].count("\n") <= 3
    assert "\r" not in log["serial"]
    written = (site.state / "vms" / "web" / "serial.log").stat().st_size
    assert len(log["serial"]) <= log["sizes"]["serial"] <= written

    shots = {screenshot(agent, "web") for _ in range(3)}
    assert all(shot.startswith(SIGNATURE) for shot in shots)
    (fdsets,) = site.qmp("web", {"execute": "query-fdsets"})
    assert "screenshot" not in str(fdsets)
    assert agent.get("/api/vms/off/screenshot")[1]["code"] == "VM_NOT_RUNNING"

    host = agent.get("/api/host")[1]["host"]
    assert (host["vms"], host["vmsRunning"]) == (2, 1)
    assert host["accelerator"] in {"kvm", "tcg"}
    assert 0 < host["memoryAvailable"] <= host["memory"]
