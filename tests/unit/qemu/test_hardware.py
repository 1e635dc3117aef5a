"""What is made of QEMU's answers about its devices."""

from __future__ import annotations

import pytest

from reconciler.model.errors import QemuError
from reconciler.model.vm import PortForward, Protocol
from reconciler.qemu.hardware import disks, forwards, vnc_port

USERNET = """Hub -1 (net-lan):
  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ
  TCP[HOST_FORWARD]  31       127.0.0.1  9999       10.0.5.15    22     0     0
Hub -1 (net0):
  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ
  TCP[ESTABLISHED]   29       10.0.2.15 55555         1.2.3.4   443     0     0
  TCP[HOST_FORWARD]  17       127.0.0.1 18081       10.0.2.15    80     0     0
  UDP[HOST_FORWARD]  18               * 18082       10.0.2.15    53     0     0
"""
LIMITS = {"bps": 0, "bps_rd": 0, "bps_wr": 0, "iops": 100, "iops_rd": 0, "iops_wr": 0}
MEDIUM = {"node-name": "disk0", "image": {"virtual-size": 5}, **LIMITS}


def test_the_forwards_of_the_first_card_alone_are_found() -> None:
    assert forwards(USERNET, "net0") == (
        PortForward(18081, 80),
        PortForward(18082, 53, Protocol.UDP, "0.0.0.0"),
    )
    assert forwards(USERNET, "net-lan") == (PortForward(9999, 22),)
    assert forwards(USERNET, "net-other") == ()


@pytest.mark.parametrize(
    ("qdev", "device"), [("/machine/peripheral/disk0/virtio-backend", "disk0"), ("disk0", "disk0")]
)
def test_a_disk_is_known_by_its_device_with_every_controller(qdev: str, device: str) -> None:
    (found,) = disks(
        [{"qdev": qdev, "removable": False, "inserted": MEDIUM}, {"qdev": "cd0", "removable": True}]
    )
    assert (found.device, found.qdev, found.size_bytes, found.limits) == (
        device,
        qdev,
        5,
        (0, 0, 0, 100, 0, 0),
    )


def test_a_disk_that_is_not_described_is_not_understood() -> None:
    with pytest.raises(QemuError, match="not understood"):
        list(disks([{"qdev": "disk0", "removable": False, "inserted": {"node-name": "disk0"}}]))


def test_a_screen_that_nobody_can_see_has_no_port() -> None:
    unix = {"family": "unix", "service": "/a", "host": ""}
    assert vnc_port([{"server": [unix]}]) is None
    assert vnc_port([{"server": []}]) is None
    assert vnc_port([{"server": [unix, {"family": "ipv4", "service": "5999", "host": "127.0.0.1"}]}]) == 5999
