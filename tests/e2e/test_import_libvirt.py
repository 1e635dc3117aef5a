"""A libvirt domain becomes a VM: imported into the manifests of an agent that runs, its disks brought as it is said."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import yaml

from tests.e2e import tiny
from tests.e2e.site import REPOSITORY, Site, free_port

DOMAINS = REPOSITORY / "tests" / "unit" / "importing" / "domains"
PATTERN = "0xa7"


def reconciler(site: Site, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """The command line, with this site's directories."""
    settings = {"RECONCILER_STATE_DIR": str(site.state), "RECONCILER_RUN_DIR": str(site.run)}
    return subprocess.run(
        [sys.executable, "-m", "reconciler", *map(str, words)],
        env=os.environ | settings,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )


def qemu_io(image: Path, command: str) -> str:
    """One command of qemu-io on an image that nobody has open."""
    words = ["qemu-io", "-f", "qcow2", "-c", command, str(image)]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout


def test_a_domain_that_was_imported_and_made_smaller_runs(site: Site) -> None:
    agent = site.agent()
    said = reconciler(site, "import", "--libvirt", DOMAINS / "linux.xml", "--output", site.manifests).stderr
    assert f"shop-db: its manifest is {site.manifests / 'shop-db.yaml'}" in said
    agent.wait_status("shop-db", "stopped")  # its disks are not there yet
    assert site.pids("shop-db") == []
    small = {"memory": 128, "maxMemory": None, "diskSize": 1, "vncPort": free_port()}
    site.edit("shop-db", **small, bootOrder="cd", isoPath=tiny.iso(site), state="running")
    agent.wait_status("shop-db", "running")
    tiny.wait_up(site, "shop-db")
    assert agent.get("/api/vms")[1]["problems"] == []


def test_its_disk_is_brought_by_the_commands_that_are_printed(site: Site) -> None:
    """An old image over another one, as libvirt's snapshots leave it, becomes the root disk with all that is in it."""
    base, image = site.root / "base.qcow2", site.root / "old.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", base, "1280M"], check=True, timeout=60)
    qemu_io(base, f"write -P {PATTERN} 64k 64k")
    overlay = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(base), str(image)]
    subprocess.run(overlay, check=True, timeout=60)
    source = site.root / "web.xml"
    disk = f"<driver type='qcow2'/><source file='{image}'/><target dev='vda' bus='virtio'/>"
    source.write_text(
        "<domain type='kvm'><name>web</name><memory unit='MiB'>128</memory>"
        "<os><type machine='q35'>hvm</type><boot dev='cdrom'/></os><devices>"
        f"<disk type='file'>{disk}</disk>"
        f"<disk type='file' device='cdrom'><source file='{tiny.path(site)}'/><target dev='sda' bus='scsi'/></disk>"
        f"<graphics type='vnc' port='{free_port()}' autoport='no'/></devices></domain>"
    )
    agent = site.agent()
    said = reconciler(site, "import", "--libvirt", source, "--output", site.manifests).stderr
    assert yaml.safe_load((site.manifests / "web.yaml").read_text())["spec"]["diskSize"] == 2
    agent.wait_status("web", "stopped")
    for line in re.findall(r"^  ((?:mkdir|qemu-img) .*)$", said, re.MULTILINE):
        subprocess.run(shlex.split(line), check=True, timeout=60)
    assert "  reconciler start web" in said.splitlines()
    reconciler(site, "start", "web")
    tiny.wait_up(site, "web")
    assert agent.vm("web")["status"] == "running"
    agent.post("/api/vms/web/stop", {"force": True})
    read = qemu_io(site.state / "vms" / "web" / "root.qcow2", f"read -P {PATTERN} 64k 64k")
    assert "read 65536/65536 bytes" in read
    assert "Pattern verification failed" not in read
