"""How long a start takes: from a manifest that is written, and from a request, as ratios to the floor.

The floor is the very same QEMU command line, spawned bare, until QMP answers; the disk is made already. All three are
measured in turns in one run, so that what the machine does otherwise hits them alike. Where libvirt is installed,
`virsh start` of an equal domain is measured in the same turns.
"""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from reconciler.layout import SocketDir
from reconciler.model.observed import Identity
from reconciler.model.vm import Accel, VMSpec
from reconciler.qemu.command_line import command_line
from reconciler.qemu.machine import Machine
from reconciler.qemu.sockets import listening
from tests.e2e.site import Agent, Site, free_port

TURNS = 25
VIRSH_TURNS = 5  # it takes seconds where there is no systemd for it to talk to
LIMITS = {"file": 2.0, "post": 2.0, "virsh": 0.5}
SPEC: dict[str, object] = {"memory": 256, "cpuCores": 1, "diskSize": 1}
DOMAIN = """<domain type='qemu'>
  <name>{name}</name><memory unit='MiB'>256</memory><vcpu>1</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/><source file='{disk}'/><target dev='vda' bus='virtio'/>
    </disk>
    <disk type='file' device='cdrom'><target dev='sda' bus='scsi'/><readonly/></disk>
    <controller type='scsi' model='virtio-scsi'/>
    <interface type='user'><model type='virtio'/></interface>
    <serial type='pty'/>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    <graphics type='vnc' listen='127.0.0.1'/><video><model type='vga'/></video>
    <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
  </devices>
</domain>"""


def main() -> None:
    """Measure, and print a table."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory, ExitStack() as stack:
        site = Site(Path(directory))
        stack.callback(site.close)
        agent = site.agent(rescanSeconds=10, qemuUser="reconciler-qemu")
        site.write("web", **SPEC, vncPort=free_port())
        agent.wait_status("web", "running")
        stop(agent)
        measures: dict[str, Callable[[], float]] = {
            "floor": lambda: floor(site),
            "file": lambda: from_file(site, agent),
            "post": lambda: from_post(agent),
        }
        if virsh := virsh_measure(site, stack):
            measures["virsh"] = virsh
        times = {name: [] for name in measures}  # type: dict[str, list[float]]
        for turn in range(TURNS):
            for name, measure in measures.items():
                if name != "virsh" or turn < VIRSH_TURNS:
                    times[name].append(measure())
        report(times)


def stop(agent: Agent) -> None:
    """Off, at once."""
    status, answer = agent.post("/api/vms/web/stop", {"force": True})
    assert status == 200, answer


def floor(site: Site) -> float:
    """Seconds from spawn to the first answer of QMP, for the command line that the agent would use."""
    home = site.state / "vms" / "web"
    identity = msgspec.json.decode((home / "identity.json").read_bytes(), type=Identity)
    directory = SocketDir(site.run / "floor")
    with (
        listening(directory) as sockets,
        (home / "root.qcow2").open("r+b") as disk,
        (home / "floor.log").open("ab") as log,
    ):
        spec = replace(VMSpec(), memory_mib=256, cpu_cores=1, disk_size_gib=1)
        machine = Machine("web", spec, identity, Accel.TCG, free_port(), disk.fileno(), log.fileno(), sockets)
        argv = command_line(machine, "qemu-system-x86_64")
        began = time.perf_counter()
        with subprocess.Popen(argv, pass_fds=machine.descriptors, stdin=subprocess.DEVNULL) as qemu:
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(directory.qmp))
                stream = client.makefile("rw")
                stream.readline()
                stream.write('{"execute": "qmp_capabilities"}\n')
                stream.flush()
                assert "return" in json.loads(stream.readline())
                took_s = time.perf_counter() - began
            qemu.kill()
    return took_s


def from_file(site: Site, agent: Agent) -> float:
    """Seconds from the rename of a manifest that says running to the agent's `running`, seen by polling its API."""
    path = site.manifests / "web.yaml"
    text = path.read_text()
    assert "state: stopped" in text
    aside = site.root / ".web.new"
    aside.write_text(text.replace("state: stopped", "state: running"))
    api = http.client.HTTPConnection(urlsplit(agent.url).netloc)
    began = time.perf_counter()
    aside.replace(path)
    while True:
        api.request("GET", "/api/vms/web")
        if json.loads(api.getresponse().read())["vm"]["status"] == "running":
            break
        time.sleep(0.002)
    took_s = time.perf_counter() - began
    api.close()
    stop(agent)
    return took_s


def from_post(agent: Agent) -> float:
    """Seconds from the request to its answer, which says running."""
    began = time.perf_counter()
    status, answer = agent.post("/api/vms/web/start")
    took_s = time.perf_counter() - began
    assert (status, answer["vm"]["status"]) == (200, "running"), answer
    stop(agent)
    return took_s


def virsh_measure(site: Site, stack: ExitStack) -> Callable[[], float] | None:
    """The measure of libvirt, where it is installed and its daemon answers."""
    if (
        not shutil.which("virsh")
        or subprocess.run(["virsh", "uri"], capture_output=True, check=False).returncode
    ):
        return None
    name = f"bench-{site.run.name}"
    disk = Path("/var/lib/libvirt/images") / f"{name}.qcow2"
    xml = site.root / "domain.xml"
    xml.write_text(DOMAIN.format(name=name, disk=disk))
    virsh("define", str(xml))
    stack.callback(disk.unlink)
    stack.callback(virsh, "undefine", name)
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "1G"], check=True)

    def measure() -> float:
        began = time.perf_counter()
        virsh("start", name)
        took_s = time.perf_counter() - began
        virsh("destroy", name)
        return took_s

    return measure


def virsh(*words: str) -> None:
    """One command of libvirt."""
    subprocess.run(["virsh", "--quiet", *words], check=True, capture_output=True)


def report(times: dict[str, list[float]]) -> None:
    """Medians, and ratios of medians."""
    medians = {name: statistics.median(values) for name, values in times.items()}
    print(f"start of a VM, N = {TURNS}, medians")
    for name, median_s in medians.items():
        print(f"  {name:6} {median_s * 1000:7.1f} ms   (min {min(times[name]) * 1000:.1f})")
    for name in ("file", "post"):
        tell(f"{name} / floor", medians[name] / medians["floor"], LIMITS[name])
    if "virsh" in medians:
        tell("file / virsh", medians["file"] / medians["virsh"], LIMITS["virsh"])
    else:
        print("  (no libvirt here to compare with)")


def tell(what: str, ratio: float, limit: float) -> None:
    """One ratio and its limit."""
    print(f"  {what:13} {ratio:5.2f}   limit {limit:.1f}   {'ok' if ratio <= limit else 'TOO SLOW'}")
