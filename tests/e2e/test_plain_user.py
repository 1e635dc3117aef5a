"""Everything works for a plain user as well, whose VMs then run as that user."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import tiny
from tests.e2e.site import Agent, Site

NOBODY = 65534
AS_NOBODY = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--"]


@pytest.fixture
def plain_site() -> Iterator[Site]:
    """A site that belongs to nobody."""
    if os.geteuid() != 0:
        pytest.skip("the other tests run as a plain user already")
    if subprocess.run([*AS_NOBODY, sys.executable, "-c", "import reconciler"], check=False).returncode:
        pytest.skip("a plain user cannot read this checkout")
    root = Path(tempfile.mkdtemp())
    site = Site(root)
    yield site
    site.close()
    shutil.rmtree(root)


def start(site: Site) -> Agent:
    """An agent of nobody's."""
    command = site.command()
    for path in (site.root, *site.root.rglob("*"), site.run):
        os.chown(path, NOBODY, NOBODY)
    return site.start([*AS_NOBODY, *command]).wait_ready()


def test_a_plain_user_runs_vms_as_himself(plain_site: Site) -> None:
    site = plain_site
    site.write("web", isoPath=tiny.iso(site))
    agent = start(site)
    agent.wait_status("web", "running")
    pid = site.pid("web")
    assert Path(f"/proc/{pid}").stat().st_uid == NOBODY
    tiny.wait_up(site, "web")
    agent.kill()
    heir = start(site)
    assert heir.wait_status("web", "running")["pid"] == pid
    assert heir.post("/api/vms/web/stop")[0] == 200
    assert "in time" not in heir.vm("web")["lastExit"]["message"]
