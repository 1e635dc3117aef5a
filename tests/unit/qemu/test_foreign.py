"""A foreign QEMU through our functions: they see our names, it hears its own, and nothing is mistaken for ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from reconciler.model.errors import QemuError, QmpError
from reconciler.model.observed import Foreign
from reconciler.model.survey import Screen
from reconciler.model.vm import BootDevice, PortForward, Throttle
from reconciler.qemu import live, view
from reconciler.qemu.foreign import NOT_OURS, translated
from reconciler.qemu.hardware import PERIPHERAL, boot_index, disks, forwards
from reconciler.qemu.survey import screen, user_networks

UUID, THEIRS = "6e1a2f3c-0000-4000-8000-000000000001", "00000000-0000-0000-0000-000000000000"
HD, CD, ETH = "/machine/unattached/device[23]", "/machine/unattached/device[24]", f"{PERIPHERAL}/eth"
FOREIGN = Foreign(
    uuid=THEIRS,
    ids={"disk0": HD, "cd0": CD},
    paths={"disk0": HD, "cd0": CD, "nic0": ETH},
    netdev="#net027",
    media={"#block3": "iso-0123456789abcdef"},
)
IMAGE = {"virtual-size": 1024**3}
LIMITS = dict.fromkeys(("bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr"), 0)
BLOCK = [
    {"qdev": HD, "removable": False, "inserted": {"node-name": "#block1", "image": IMAGE, **LIMITS}},
    {"qdev": CD, "removable": True, "inserted": {"node-name": "#block3"}},
    {"device": "sd0", "removable": True},
    {
        "qdev": f"{PERIPHERAL}/disk-1/virtio-backend",
        "removable": False,
        "inserted": {"node-name": "x", "image": IMAGE, **LIMITS},
    },
]
USERNET = """Hub -1 (net-lan):
  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ
  TCP[HOST_FORWARD]  11       127.0.0.1  9999       10.0.2.15    99     0     0
Hub 0 (#net027):
  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ
  TCP[HOST_FORWARD]  11               *  2222       10.0.2.15    22     0     0
"""


@dataclass
class Qemu:
    """A QEMU that answers by a table, and keeps what it heard. An exception in the table is raised."""

    answers: dict[str, object] = field(default_factory=dict)
    heard: list[tuple[str, dict[str, object]]] = field(default_factory=list)

    def __call__(
        self, command: str, arguments: Mapping[str, object] | None = None, *, fd: int | None = None
    ) -> object:
        self.heard.append((command, dict(arguments or {})))
        answer = self.answers.get(command, {})
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_it_is_this_vm_if_it_says_what_it_said_when_it_was_imported() -> None:
    state: dict[str, object] = {"query-status": {"status": "shutdown"}, "query-block": BLOCK}
    qemu = Qemu({**state, "query-uuid": {"UUID": THEIRS}})
    seen = view.observe(translated(qemu, FOREIGN, UUID), UUID)
    assert seen.cd is not None
    assert seen.cd.node_name == "iso-0123456789abcdef"
    other = Qemu({**state, "query-uuid": {"UUID": "11111111-0000-4000-8000-000000000001"}})
    with pytest.raises(QemuError, match="another VM's"):
        view.observe(translated(other, FOREIGN, UUID), UUID)


def test_its_disk_is_ours_and_one_that_is_called_like_ours_is_not() -> None:
    found = list(disks(translated(Qemu({"query-block": BLOCK}), FOREIGN, UUID)("query-block")))
    assert [disk.device for disk in found] == ["disk0", f"{NOT_OURS}{PERIPHERAL}/disk-1/virtio-backend"]
    assert found[0].node_name == "#block1"


def test_devices_nodes_and_networks_that_are_called_like_ours_are_not_ours() -> None:
    listed = [{"name": name, "type": "child<x>"} for name in ("eth", "disk-1", "nic-a", "port0")]
    nodes = [{"node-name": "disk-1"}, {"node-name": "iso-0123456789abcdef"}]
    qemu = Qemu({"qom-list": listed, "query-named-block-nodes": nodes, "human-monitor-command": USERNET})
    execute = translated(qemu, FOREIGN, UUID)
    devices = execute("qom-list", {"path": PERIPHERAL})
    assert isinstance(devices, list)
    names = {one["name"] for one in devices}
    assert names == {"disk0", "cd0", "nic0"} | {f"{NOT_OURS}{one['name']}" for one in listed}
    assert execute("query-named-block-nodes", {"flat": True}) == [
        {"node-name": f"{NOT_OURS}disk-1"},
        nodes[1],
    ]
    text = str(execute("human-monitor-command", {"command-line": "info usernet"}))
    assert forwards(text, "net0") == (PortForward(2222, 22, host_address="0.0.0.0"),)
    assert "(net-lan)" not in text


def test_what_is_told_by_our_names_it_hears_by_its_own() -> None:
    qemu = Qemu({"human-monitor-command": ""})
    execute = translated(qemu, FOREIGN, UUID)
    live.add_forward(execute, PortForward(2222, 22))
    live.limit_disk(execute, "disk0", Throttle(iops=5))
    live.set_link(execute, "nic0", up=False)
    live.set_boot_order(execute, (BootDevice.HD,))
    execute("blockdev-open-tray", {"id": "cd0"})
    heard = [(command, arguments) for command, arguments in qemu.heard if command != "qom-get"]
    assert heard[0][1] == {"command-line": "hostfwd_add #net027 tcp:127.0.0.1:2222-:22"}
    assert heard[1][1]["id"] == HD
    assert heard[2][1] == {"name": "#net027", "up": False}
    assert heard[-2] == ("qom-set", {"path": HD, "property": "bootindex", "value": 0})
    assert heard[-1] == ("blockdev-open-tray", {"id": CD})


def test_what_is_not_there_is_not_booted_from_and_every_other_refusal_is_told() -> None:
    refused = QmpError("qom-get", "DeviceNotFound", "Device '/machine/peripheral/x' not found")
    execute = translated(Qemu({"qom-get": refused}), FOREIGN, UUID)
    assert boot_index(execute, "cd0") == -1
    with pytest.raises(QmpError, match="not found"):
        execute("qom-get", {"path": f"{PERIPHERAL}/cd0", "property": "type"})


def test_a_device_that_it_lacks_is_never_one_of_that_name() -> None:
    qemu = Qemu()
    execute = translated(qemu, Foreign(THEIRS), UUID)
    execute("qom-get", {"path": f"{PERIPHERAL}/nic0", "property": "bootindex"})
    assert qemu.heard == [("qom-get", {"path": f"{PERIPHERAL}/{NOT_OURS}nic0", "property": "bootindex"})]


def test_user_networks_are_found_with_and_without_a_hub() -> None:
    assert user_networks(USERNET) == {
        "net-lan": (PortForward(9999, 99),),
        "#net027": (PortForward(2222, 22, host_address="0.0.0.0"),),
    }


def test_the_screen_is_the_one_that_is_reached_by_ipv4() -> None:
    address = {"family": "ipv4", "service": "5977", "host": "127.0.0.1"}
    other = {"family": "ipv6", "service": "5978", "host": "::1"}
    assert screen([{"auth": "none", "server": [other, address]}]) == Screen(5977, "127.0.0.1", "none")
    assert screen([{"auth": "none", "server": [{"family": "unix", "service": "/x"}]}]) is None
