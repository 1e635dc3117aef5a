"""Everything that no conversion has read: harmless and known to be so, or noted. There is no third way.

Two tables say what is known of libvirt's format; what neither knows is noted as having no field. Next:
`reconciler.importing.libvirt`.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import TypeVar

from reconciler.importing.ledger import Ledger, Node, said, shown_unread, shown_words
from reconciler.importing.outcome import Kind
from reconciler.importing.tree import Element

_T = TypeVar("_T")

Values = frozenset[str] | None
"""Patterns of the values that mean nothing here; None: any."""

HARMLESS: Mapping[str, Values] = {
    # Of a domain that runs, or of how libvirt keeps its books.
    "@id": None,
    "@xmlns:*": None,
    "metadata/libosinfo:libosinfo/@xmlns:*": None,
    "resource/partition/text()": frozenset({"/machine"}),
    "vcpus": None,  # which of the processors of `vcpu current=` are there
    "maxMemory/@slots": None,
    "cpu/@check": None,  # what libvirt checks before a start
    "cpu/@migratable": None,
    "os/type/@machine": frozenset({"q35", "pc-q35-*"}),
    "devices/disk/target/@dev": None,  # the guest finds its own names; a data disk's gives ours
    "devices/interface/target/@dev": frozenset({"vnet[0-9]*", "macvtap[0-9]*"}),
    "devices/emulator": None,  # the setting qemuBinary names the agent's
    "devices/*/alias": None,
    "devices/*/address": None,  # the identity of the VM gives its own; a card's is spoken of at its MAC address
    "devices/disk/backingStore": None,  # `qemu-img convert` makes one image of a chain
    "devices/disk/source/@index": None,
    "devices/disk/driver/@name": frozenset({"qemu"}),
    "devices/disk/driver/@cache": frozenset({"default", "writeback"}),
    "devices/disk/driver/@discard": frozenset({"unmap"}),
    "devices/disk/driver/@detect_zeroes": frozenset({"unmap"}),
    "devices/interface/source/@portid": None,
    "devices/disk/source/@startupPolicy": frozenset({"mandatory"}),
    "devices/memballoon/@autodeflate": frozenset({"off"}),
    # What every VM has here.
    "features/acpi": None,
    "features/apic": None,
    "features/pae": None,
    "features/vmport/@state": frozenset({"off"}),
    "clock/@offset": frozenset({"utc"}),
    "clock/timer/@name": frozenset({"rtc", "pit", "hpet"}),
    "clock/timer/@tickpolicy": frozenset({"catchup", "delay"}),
    "clock/timer/@present": frozenset({"no"}),
    "pm/suspend-to-mem/@enabled": frozenset({"no"}),
    "pm/suspend-to-disk/@enabled": frozenset({"no"}),
    "os/boot/@dev": frozenset({"hd", "cdrom", "network"}),  # beside devices with numbers, which count then
    "os/bootmenu/@enable": frozenset({"no"}),
    "devices/controller/@type": frozenset({"pci", "usb", "sata", "ide", "scsi", "virtio-serial", "fdc"}),
    "devices/controller/@index": None,
    "devices/controller/@model": None,
    "devices/controller/@ports": None,
    "devices/controller/master": None,
    "devices/controller/model": None,
    "devices/controller/target": None,
    "devices/input/@type": frozenset({"tablet", "mouse", "keyboard"}),
    "devices/input/@bus": frozenset({"usb", "ps2"}),
    "devices/memballoon/@model": frozenset({"virtio"}),
    "devices/rng/@model": frozenset({"virtio"}),
    "devices/rng/backend/@model": frozenset({"random", "builtin"}),
    "devices/rng/backend/text()": frozenset({"/dev/urandom", "/dev/random"}),
    "devices/serial/@type": frozenset({"pty"}),
    "devices/serial/source/@path": None,
    "devices/serial/target/@type": frozenset({"isa-serial"}),
    "devices/serial/target/@port": frozenset({"0"}),
    "devices/serial/target/model/@name": frozenset({"isa-serial"}),
    "devices/console/@type": frozenset({"pty"}),
    "devices/console/@tty": None,
    "devices/console/source/@path": None,
    "devices/console/target/@type": frozenset({"serial"}),
    "devices/console/target/@port": frozenset({"0"}),
    "devices/channel/@type": frozenset({"unix"}),
    "devices/channel/source/@mode": frozenset({"bind"}),
    "devices/channel/source/@path": None,
    "devices/channel/target/@type": frozenset({"virtio"}),
    "devices/channel/target/@name": frozenset({"org.qemu.guest_agent.0"}),
    "devices/channel/target/@state": None,
    "devices/panic/@model": frozenset({"isa", "pvpanic"}),
    "devices/audio/@id": None,
    "devices/audio/@type": frozenset({"none"}),
    "devices/hub": None,
}

CONTAINERS = frozenset({"", "metadata", "os", "resource", "features", "clock", "pm", "devices"})
"""What says nothing by itself: only what stands in it, or on it, does."""

_OTHER_SCREEN = "the screen is VNC (vncPort) and a web console, without further options"
_HUGE = "memory comes as it comes from the host, in small pages"
_PINS = "which processors of the host run it cannot be chosen"
REMARKS: Mapping[str, tuple[Kind, str]] = {
    "uuid": (Kind.LOST, "the VM gets a UUID of its own; licences and cloud-init may go by it"),
    "genid": (Kind.LOST, "the VM has no generation id"),
    "title": (Kind.LOST, "too long for a label: a comment in the manifest can hold it"),
    "description": (Kind.LOST, "too long for a label: a comment in the manifest can hold it"),
    "metadata/*": (Kind.LOST, "other programs' notes have no place here"),
    "os/loader": (Kind.LOST, "the VM has QEMU's BIOS (SeaBIOS)"),
    "os/nvram": (Kind.LOST, "without UEFI there are no UEFI variables"),
    "os/firmware": (Kind.LOST, "without UEFI there is no Secure Boot"),
    "os/kernel": (Kind.LOST, "the guest boots from its disk or the CD; install its boot loader there"),
    "os/initrd": (Kind.LOST, "the guest boots from its disk or the CD; install its boot loader there"),
    "os/cmdline": (Kind.LOST, "set the kernel's command line in the guest's boot loader"),
    "os/boot": (Kind.LOST, "bootOrder knows cd, hd and net"),
    "os/smbios": (Kind.LOST, "the guest sees QEMU's own SMBIOS; licences of OEM systems may go by it"),
    "sysinfo": (Kind.LOST, "the guest sees QEMU's own SMBIOS; licences of OEM systems may go by it"),
    "features/hyperv": (Kind.LOST, "Windows runs without these, somewhat slower"),
    "features/smm": (Kind.LOST, "it serves Secure Boot alone"),
    "clock": (Kind.LOST, "the guest's clock is in UTC; tell Windows so (RealTimeIsUniversal=1)"),
    "clock/timer": (Kind.LOST, "timers are QEMU's defaults"),
    "memoryBacking": (Kind.LOST, _HUGE),
    "numatune": (Kind.LOST, _PINS),
    "cputune": (Kind.LOST, _PINS),
    "vcpu": (Kind.LOST, _PINS),
    "iothreads": (Kind.LOST, "disks share one thread of QEMU"),
    "iothreadids": (Kind.LOST, "disks share one thread of QEMU"),
    "blkiotune": (Kind.LOST, "rootDisk and disks have iops and mbps, and no weights"),
    "memtune": (Kind.LOST, "limits of QEMU's own memory are not set; systemd can set them for the agent"),
    "devices/disk/iotune/*": (Kind.LOST, "of limits there are iops and mbps, for reads and writes together"),
    "devices/disk/driver": (Kind.LOST, "the disk has QEMU's defaults (cache=writeback) with discard=unmap"),
    "devices/disk/target": (Kind.LOST, "a drive's tray starts closed, and disks cannot be ejected"),
    "devices/disk/source/encryption": (Kind.TO_DO, "an encrypted image has to be decrypted as it is copied"),
    "devices/disk/encryption": (Kind.TO_DO, "an encrypted image has to be decrypted as it is copied"),
    "devices/disk/source": (Kind.TO_DO, "the content has to come from there"),
    "devices/disk/shareable": (Kind.LOST, "a disk belongs to one VM"),
    "devices/disk/readonly": (Kind.LOST, "the guest may write to this disk here"),
    "devices/disk/transient": (Kind.LOST, "what the guest writes stays"),
    "devices/disk/serial": (Kind.LOST, "guests that mount it by /dev/disk/by-id have to mount it by UUID"),
    "devices/disk/wwn": (Kind.LOST, "guests that mount it by /dev/disk/by-id have to mount it by UUID"),
    "devices/disk": (Kind.LOST, "a VM has hard disks and one CD drive, without further options"),
    "devices/interface/bandwidth": (Kind.LOST, "a card has no limits"),
    "devices/interface/filterref": (
        Kind.LOST,
        "there are no filters; on a user network nobody reaches the guest",
    ),
    "devices/interface/vlan": (Kind.LOST, "a user network has no VLANs"),
    "devices/interface/mtu": (Kind.LOST, "a user network has an MTU of 1500"),
    "devices/interface/portForward": (Kind.TO_DO, "write portForwards that do the same"),
    "devices/interface/driver": (Kind.LOST, "the card has QEMU's defaults"),
    "devices/graphics/listen": (Kind.LOST, "VNC listens on 127.0.0.1 here"),
    "devices/graphics": (Kind.LOST, _OTHER_SCREEN),
    "devices/video": (Kind.LOST, "the VM has QEMU's VGA, which every guest can drive"),
    "devices/sound": (Kind.LOST, "a VM has no sound"),
    "devices/audio": (Kind.LOST, "a VM has no sound"),
    "devices/tpm": (
        Kind.LOST,
        "a VM has no TPM: Windows 11 refuses to install, BitLocker asks for its recovery key",
    ),
    "devices/hostdev": (Kind.LOST, "devices of the host cannot be given to a VM"),
    "devices/filesystem": (
        Kind.LOST,
        "directories of the host cannot be shared; use the network (NFS, sshfs)",
    ),
    "devices/redirdev": (Kind.LOST, "USB devices cannot be redirected"),
    "devices/smartcard": (Kind.LOST, "a VM has no smartcard reader"),
    "devices/serial": (Kind.LOST, "a VM has one serial port, whose output is in serial.log"),
    "devices/console": (Kind.LOST, "a VM has one serial port, whose output is in serial.log"),
    "devices/parallel": (Kind.LOST, "a VM has no parallel port"),
    "devices/channel": (Kind.LOST, "of channels there is the guest agent's alone"),
    "devices/controller": (Kind.LOST, "controllers are the profile's"),
    "devices/memory": (Kind.LOST, "memory holds the size of such modules already"),
    "devices/memballoon": (Kind.LOST, "the VM has a virtio balloon as the agent sets it up"),
    "devices/rng": (Kind.LOST, "the VM has a virtio-rng device without limits"),
    "devices/watchdog": (Kind.LOST, "a VM has one watchdog at most, an i6300esb: the field watchdog"),
    "devices/panic": (Kind.LOST, "the VM has pvpanic"),
    "devices/iommu": (Kind.LOST, "a VM has no IOMMU"),
    "devices/vsock": (Kind.LOST, "a VM has no vsock"),
    "devices/input": (Kind.LOST, "the VM has a USB tablet and a PS/2 keyboard"),
    "devices/shmem": (Kind.LOST, "memory is not shared between VMs"),
    "devices/nvram": (Kind.LOST, "a PC has none"),
    "seclabel": (Kind.LOST, "QEMU is confined by a user of its own and seccomp, not by labels"),
    "launchSecurity": (Kind.LOST, "the guest's memory is not encrypted"),
    "qemu:commandline": (Kind.LOST, "QEMU's command line is the agent's own"),
    "qemu:override": (Kind.LOST, "QEMU's command line is the agent's own"),
    "qemu:capabilities": (Kind.LOST, "QEMU's command line is the agent's own"),
}
NO_FIELD = (Kind.LOST, "a manifest has no field for it")

_UNKNOWN: Values = frozenset()
_WILD = {pattern: tuple(pattern.split("/")) for pattern in (*HARMLESS, *REMARKS) if "*" in pattern}


def tick_harmless(root: Element, ledger: Ledger) -> None:
    """Tick off what means nothing here, before anything is read, so that no note mentions it."""
    for element in root.walk():
        _tick(element, ledger)


def note_leftovers(element: Element, ledger: Ledger) -> None:
    """One note for an element that nobody has read; else one for what is left of itself, and on to its children."""
    kind, remark = _remark(element.path)
    whole = not ledger.ticked(element)
    rest = shown_unread(element, ledger) if whole else shown_words(element, ledger)
    if whole or rest:
        ledger.note(kind, element, said(element, rest, remark))
    for child in () if whole else element.children:
        note_leftovers(child, ledger)


def harmless(path: tuple[str, ...], value: str) -> bool:
    """Whether a thing at this path means nothing here: an element, or `@name` or `text()` of one."""
    values = _entry(HARMLESS, path, _UNKNOWN)
    return values is None or any(fnmatchcase(value, each) for each in values)


def _tick(element: Element, ledger: Ledger) -> None:
    if harmless(element.path, ""):
        Node(element, ledger).done()
        return
    words = list(ledger.unread(element))
    for what, value in words:
        if harmless((*element.path, what), value):
            ledger.tick(element, what)
    all_were = bool(words) and not list(ledger.unread(element))
    if all_were or "/".join(element.path) in CONTAINERS:
        ledger.tick(element)


def _remark(path: tuple[str, ...]) -> tuple[Kind, str]:
    return _entry(REMARKS, path, NO_FIELD)


def _entry(table: Mapping[str, _T], path: tuple[str, ...], default: _T) -> _T:
    """What a table says of a path: by its own words, else by a pattern, in which `*` is one step."""
    key = "/".join(path)
    if key in table:
        return table[key]
    fitting = (pattern for pattern, steps in _WILD.items() if pattern in table and _fits(path, steps))
    return next((table[pattern] for pattern in fitting), default)


def _fits(path: tuple[str, ...], steps: tuple[str, ...]) -> bool:
    return len(steps) == len(path) and all(map(fnmatchcase, path, steps))
