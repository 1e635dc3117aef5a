"""One function for each device, each giving its piece of QEMU's command line.

JSON wherever QEMU takes it, so that no value can become an option: a comma in a path once opened another
file. Every PCI device has the slot that the VM's identity gives it, so that its guest finds the same hardware
after an upgrade. Next: `reconciler.qemu.command_line`, which puts the pieces together.
"""

from __future__ import annotations

import json
from ipaddress import IPv4Address

from reconciler.model.errors import StateError
from reconciler.model.vm import BootDevice, PortForward, Profile
from reconciler.qemu.machine import FdSet, IsoFd, Machine

MIB = 1024**2
VNC_HOST = "127.0.0.1"
FILE_SUFFIX = "_file"  # no name that a manifest gives a disk ends so
PORTS = "ports0"

Argv = tuple[str, ...]
Properties = dict[str, object]

CD_DRIVE = "cd0"
"""The id by which `query-block` shows the CD drive, in both profiles."""
DISK_NODE = "disk0"
FIRST_NIC = "nic0"
FIRST_NETDEV = "net0"
EXTRA_MEMORY = "vmem0"
WATCHDOG = "watchdog0"
BALLOON = "balloon0"
BOOT_DEVICES = {BootDevice.CD: CD_DRIVE, BootDevice.HD: DISK_NODE, BootDevice.NET: FIRST_NIC}
"""The ids of the devices that `bootOrder` speaks of."""
GUEST_AGENT = "agent"
GUEST_AGENT_PORT = "qgaport"

SLOTS = {
    "vga0": 1,
    "nic0": 2,
    "disk0": 3,
    "scsi0": 4,
    "vser0": 5,
    "panic0": 6,
    "rng0": 7,
    "usb0": 8,
    BALLOON: 9,
    EXTRA_MEMORY: 10,
    WATCHDOG: 11,
    PORTS: 12,
}
"""The PCI slots of a new VM; 0 and 31 are the chipset's. What a VM lacks leaves its slot free."""


def option(name: str, /, **properties: object) -> Argv:
    """An option and its JSON value."""
    return name, json.dumps(properties)


def graphics(machine: Machine) -> Argv:
    """The screen that VNC shows, on the loopback alone."""
    return (
        *("-device", _pci(machine, "VGA", "vga0")),
        *("-vnc", f"{VNC_HOST}:{machine.vnc_port - 5900:d}"),
    )


def pointer(machine: Machine) -> Argv:
    """A tablet: guest and VNC viewer agree where the pointer is. Costs 1 ms, and nothing when idle."""
    return (
        *("-device", _pci(machine, "qemu-xhci", "usb0")),
        *option("-device", driver="usb-tablet", id="tablet0", bus="usb0.0"),
    )


def root_disk(machine: Machine) -> Argv:
    """A qcow2 file, its header's backing file ignored. Discards reach the file only through both layers."""
    boot = _bootindex(machine, BootDevice.HD)
    if machine.spec.profile is Profile.COMPATIBLE:
        device = json.dumps({"driver": "ide-hd", "id": "disk0", "bus": "ide.0", "drive": DISK_NODE, **boot})
    else:
        device = _pci(machine, "virtio-blk-pci", "disk0", {"drive": DISK_NODE, **boot})
    return (
        *add_file(machine.disk_fd, FdSet.DISK, DISK_NODE),
        *("-blockdev", json.dumps(disk_node(DISK_NODE, FdSet.DISK))),
        *("-device", device),
    )


def disk_node(node_name: str, fdset: int) -> Properties:
    """The block node of a disk that QEMU has as a descriptor; also the arguments of `blockdev-add`."""
    file: Properties = {
        "driver": "file",
        "node-name": f"{node_name}{FILE_SUFFIX}",
        "filename": f"/dev/fdset/{fdset:d}",
        "discard": "unmap",
        "locking": "on",
    }
    return {
        "driver": "qcow2",
        "node-name": node_name,
        "discard": "unmap",
        "detect-zeroes": "unmap",
        "backing": None,
        "file": file,
    }


def cd_drive(machine: Machine) -> Argv:
    """A drive that is always there, empty or not: a medium can come and go, a drive on q35 cannot."""
    medium = _medium(machine.iso) if machine.iso else ()
    properties: Properties = {"id": CD_DRIVE, **_bootindex(machine, BootDevice.CD)}
    if machine.iso:
        properties["drive"] = machine.iso.node_name
    if machine.spec.profile is Profile.COMPATIBLE:
        return *medium, *option("-device", driver="ide-cd", bus="ide.1", **properties)
    return (
        *medium,
        *("-device", _pci(machine, "virtio-scsi-pci", "scsi0")),
        *option("-device", driver="scsi-cd", bus="scsi0.0", **properties),
    )


def iso_node(node_name: str, fdset: int) -> Properties:
    """The block node of an ISO that QEMU has as a descriptor; also the arguments of `blockdev-add`."""
    return {
        "driver": "raw",
        "node-name": node_name,
        "read-only": True,
        "file": {
            "driver": "file",
            "node-name": f"{node_name}-file",
            "filename": f"/dev/fdset/{fdset:d}",
            "read-only": True,
        },
    }


def _medium(iso: IsoFd) -> Argv:
    return (
        *add_file(iso.fd, FdSet.ISO, iso.node_name),
        *("-blockdev", json.dumps(iso_node(iso.node_name, FdSet.ISO))),
    )


def add_file(fd: int, fdset: int, mark: str) -> Argv:
    """A file that the agent opened. QEMU finds it as /dev/fdset/N, and shows `mark` in query-fdsets."""
    return "-add-fd", f"fd={fd:d},set={fdset:d},opaque={mark}"


def network(machine: Machine) -> Argv:
    """User networking with its port forwards. The boot ROM costs 4 ms: for `bootOrder: net` alone."""
    net_boot = BootDevice.NET in machine.spec.boot_order
    driver = "e1000e" if machine.spec.profile is Profile.COMPATIBLE else "virtio-net-pci"
    properties: Properties = {
        "netdev": FIRST_NETDEV,
        "mac": machine.identity.mac_address,
        **_bootindex(machine, BootDevice.NET),
        **({} if net_boot else {"romfile": ""}),
    }
    forwards = [{"str": hostfwd(f)} for f in machine.spec.port_forwards]
    return (
        *option("-netdev", type="user", id=FIRST_NETDEV, **({"hostfwd": forwards} if forwards else {})),
        *("-device", _pci(machine, driver, FIRST_NIC, properties)),
    )


def hostfwd(forward: PortForward) -> str:
    """QEMU's own notation. Raises StateError for an address that is not IPv4: QEMU 7.2 forwards no other."""
    try:
        address = IPv4Address(forward.host_address)
    except ValueError as error:
        raise StateError(f"spec.portForwards: {forward.host_address!r} is no IPv4 address") from error
    return f"{forward.protocol.value}:{address}:{forward.host_port:d}-:{forward.guest_port:d}"


def serial_console(machine: Machine) -> Argv:
    """ttyS0 on a socket, and in a file: appended to, so that cutting the file short frees its space."""
    log = f"logfile=/dev/fdset/{FdSet.SERIAL_LOG:d},logappend=on"
    return (
        *add_file(machine.serial_log_fd, FdSet.SERIAL_LOG, "serial.log"),
        *("-chardev", f"{_socket('serial', machine.sockets.serial)},{log}"),
        *("-serial", "chardev:serial"),
    )


def guest_agent(machine: Machine) -> Argv:
    """The channel of qemu-guest-agent. Without an id QEMU would not tell of its opening (VSERPORT_CHANGE)."""
    return (
        *("-chardev", _socket(GUEST_AGENT, machine.sockets.guest_agent)),
        *("-device", _pci(machine, "virtio-serial-pci", "vser0")),
        *option(
            "-device",
            driver="virtserialport",
            id=GUEST_AGENT_PORT,
            bus="vser0.0",
            chardev=GUEST_AGENT,
            name="org.qemu.guest_agent.0",
        ),
    )


def panic_notifier(machine: Machine) -> Argv:
    """By which a guest's kernel says that it panicked; without it, QEMU runs on as if nothing were."""
    return "-device", _pci(machine, "pvpanic-pci", "panic0")


def entropy(machine: Machine) -> Argv:
    """Random bytes of the host, so that a fresh guest need not wait for its own."""
    return (
        *option("-object", **{"qom-type": "rng-builtin", "id": "entropy0"}),
        *("-device", _pci(machine, "virtio-rng-pci", "rng0", {"rng": "entropy0"})),
    )


def balloon(machine: Machine) -> Argv:
    """By which a guest gives memory back; what it frees by itself goes back to the host unasked."""
    if BALLOON not in machine.identity.slots:  # a VM older than the balloon keeps the hardware it has
        return ()
    return "-device", _pci(machine, "virtio-balloon-pci", BALLOON, {"free-page-reporting": True})


def extra_memory(machine: Machine) -> Argv:
    """Memory that a guest may be given later, where `maxMemory` asks for it."""
    extra_mib = machine.extra_memory_mib
    if not extra_mib:
        return ()
    backend = f"{EXTRA_MEMORY}-ram"
    return (
        *option("-object", **{"qom-type": "memory-backend-ram", "id": backend, "size": extra_mib * MIB}),
        *(
            "-device",
            _pci(machine, "virtio-mem-pci", EXTRA_MEMORY, {"memdev": backend, "requested-size": 0}),
        ),
    )


def watchdog(machine: Machine) -> Argv:
    """A card that a guest feeds, once it has begun to."""
    if machine.spec.watchdog is None:
        return ()
    return (
        *("-device", _pci(machine, "i6300esb", WATCHDOG)),
        *("-action", f"watchdog={machine.spec.watchdog.value}"),
    )


def monitors(machine: Machine) -> Argv:
    """Two QMP servers, since each serves one client at a time: the agent's, and one for people."""
    return (
        *("-chardev", _socket("qmp", machine.sockets.qmp)),
        *("-mon", "chardev=qmp,mode=control"),
        *("-chardev", _socket("human", machine.sockets.human)),
        *("-mon", "chardev=human,mode=control"),
    )


def _socket(chardev: str, fd: int) -> str:
    """A socket that the agent made and listens on: QEMU's user need not be able to reach its directory."""
    return f"socket,id={chardev},fd={fd:d},server=on,wait=off"


def _pci(machine: Machine, driver: str, device: str, properties: Properties | None = None) -> str:
    slot = machine.identity.slots.get(device)
    if slot is None:
        raise StateError(f"{machine.name}: its identity.json has no PCI slot for {device}")
    place = {"driver": driver, "id": device, "bus": "pcie.0", "addr": f"{slot:#x}"}
    return json.dumps({**place, **(properties or {})})


def _bootindex(machine: Machine, device: BootDevice) -> Properties:
    """The device's place in `bootOrder`; a device that is not named there is not booted from."""
    order = machine.spec.boot_order
    return {"bootindex": order.index(device)} if device in order else {}
