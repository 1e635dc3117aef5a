"""What the VM is called and made of, apart from its devices: name, labels, memory, processors, board, ends.

Each function reads its part of a domain and gives fields of VMSpec. Next: `reconciler.importing.disks`.
"""

from __future__ import annotations

import re
import unicodedata
from math import prod
from typing import Any

from reconciler.importing.ledger import Node
from reconciler.importing.outcome import Kind
from reconciler.importing.units import memory_mib
from reconciler.model.vm import CPU_CORES_MAX, Accel, RestartPolicy, VMSpec, is_vm_name

Fields = dict[str, Any]
"""Fields of VMSpec, by name."""

LABEL_MAX = 256
NAME_MAX = 63
_NOT_OF_A_NAME = re.compile(r"[^A-Za-z0-9_.-]+")
_LEVELS = ("sockets", "dies", "clusters", "cores", "threads")
_NO_CONTROL = re.compile(r"[^\x00-\x1f\x7f]*\Z")


def name(domain: Node, given: str | None) -> str:
    """The VM's name: the one that was asked for, or the domain's, made valid."""
    node = domain.child("name")
    found = node.enter().text if node else ""
    chosen = given or valid_name(found)
    if chosen != found:
        why = (
            "as you asked"
            if given
            else "a VM's name is of letters, digits, dots, dashes and underscores, 63 at most"
        )
        (node or domain).note(Kind.CHANGED, f'"{found}" becomes {chosen}: {why}')
    return chosen


def valid_name(text: str) -> str:
    """The closest name that a VM may have."""
    letters = (each for each in unicodedata.normalize("NFKD", text) if not unicodedata.combining(each))
    name = _NOT_OF_A_NAME.sub("-", "".join(letters)).strip("-_.")[:NAME_MAX].rstrip("-_.")
    return name if is_vm_name(name) else "imported"


def labels(domain: Node) -> dict[str, str]:
    """Title, description and operating system, as far as they are a label's size."""
    found: dict[str, str] = {}
    for tag in ("title", "description"):
        node = domain.child(tag)
        if node and _is_label(node.element.text):
            found[tag] = node.enter().text
    if system := _operating_system(domain):
        found["os"] = system
    return found


def _is_label(text: str) -> bool:
    return 0 < len(text) <= LABEL_MAX and _NO_CONTROL.match(text) is not None


def _operating_system(domain: Node) -> str | None:
    """What virt-manager noted of the guest: `<libosinfo:os id="http://debian.org/debian/12"/>`."""
    metadata = domain.child("metadata")
    info = metadata.enter().child("libosinfo:libosinfo") if metadata else None
    system = info.enter().child("libosinfo:os") if info else None
    if system and _is_label(system.element.attributes.get("id", "")):
        return system.enter().get("id")
    return None


def accel(domain: Node) -> Fields:
    """Under KVM a domain says `kvm` because its tool did: auto is as good. `qemu` is emulation by choice."""
    kind = domain.get("type")
    if kind in {"lxc", "openvz", "vz"}:
        domain.refuse(f"found type={kind}, a container, expected a virtual machine")
    match kind:
        case "kvm":
            becomes = "accel stays auto, KVM where it works; `accel: kvm` insists on it"
        case "qemu":
            becomes = "accel: tcg, emulation as before; without that line, KVM where it works"
        case _:
            becomes = "the VM runs in QEMU, with KVM where it works; try it on a copy"
    domain.note(Kind.CHANGED, f"type={kind}: {becomes}")
    return {"accel": Accel.TCG} if kind == "qemu" else {}


def memory(domain: Node) -> Fields:
    """What the guest has now is `memory`; what it could be given, `maxMemory`."""
    sizes = {
        tag: memory_mib(node)
        for tag in ("memory", "currentMemory", "maxMemory")
        if (node := domain.child(tag)) is not None
    }
    total = sizes.get("memory") or sizes.get("currentMemory") or VMSpec().memory_mib
    if "memory" not in sizes:
        domain.note(Kind.CHANGED, f"no <memory>: the VM gets {total} MiB; set memory to what the guest needs")
    now = min(sizes.get("currentMemory", total), total)
    most = max(sizes.get("maxMemory", total), total)
    return {"memory_mib": now, **({"max_memory_mib": most} if most > now else {})}


def processors(domain: Node) -> Fields:
    """How many, and how many there may be. What they are cannot be chosen yet."""
    node, cpu = domain.child("vcpu"), domain.child("cpu")
    counted = _topology(cpu.enter()) if cpu else None
    most = node.enter().text_number if node else counted or 1
    now = (node.number("current") if node else None) or most
    if node:
        node.one_of("placement", "static")
    if counted and counted != most and cpu:
        cpu.note(Kind.CHANGED, f"topology counts {counted} processors, vcpu {most}: the VM gets {most}")
    if cpu:
        _model(cpu)
    most, now = _within(node or domain, most), _within(node or domain, min(now, most))
    return {"cpu_cores": now, **({"max_cpu_cores": most} if most > now else {})}


def _within(node: Node, cores: int) -> int:
    within = min(max(cores, 1), CPU_CORES_MAX)
    if within != cores:
        node.note(
            Kind.CHANGED, f"{cores} processors become {within}: 1 to {CPU_CORES_MAX} is what a VM can have"
        )
    return within


def _topology(cpu: Node) -> int | None:
    """How many processors a topology makes; any shape but one socket of cores is noted."""
    node = cpu.child("topology")
    if node is None:
        return None
    counts = {level: node.enter().number(level) or 1 for level in _LEVELS}
    if prod(counts.values()) != counts["cores"]:
        shape = " × ".join(f"{count} {level}" for level, count in counts.items() if count > 1)
        node.note(Kind.CHANGED, f"{shape}: the guest sees one socket of as many cores instead")
    return prod(counts.values())


def _model(cpu: Node) -> None:
    cpu.one_of("mode", "host-passthrough")
    what = "all that the host's CPU has (under emulation: all that QEMU can play)"
    if cpu.rest:
        cpu.give_up(Kind.LOST, f"no field describes processors: the guest sees {what}")


def board(domain: Node) -> None:
    """Refuses what is no PC; says what a guest notices of another board or firmware."""
    system = domain.child("os")
    kind = system.enter().child("type") if system else None
    if system is None or kind is None:
        domain.refuse("found no <os><type>, expected a whole domain, as `virsh dumpxml` prints it")
    if kind.enter().text != "hvm":
        kind.refuse(
            f'found "{kind.text[:64]}", expected hvm: a virtual machine with a BIOS or UEFI of its own'
        )
    arch, model = kind.get("arch"), kind.get("machine") or ""
    if arch not in {None, "x86_64", "i686"}:
        kind.refuse(f"found arch={arch}, expected x86_64 or i686: the agent runs no others")
    if arch == "i686":
        kind.note(Kind.CHANGED, "arch=i686: the VM's processors can do 64 bits as well")
    if "q35" not in model:
        old = "a guest installed on an older board finds its disks and cards at other places"
        kind.note(
            Kind.CHANGED,
            f"machine={model or '(none given)'}: the VM has a q35 board; {old}: try it on a copy",
        )
    _firmware(system)


def _firmware(system: Node) -> None:
    """UEFI is what keeps a guest from booting here at all."""
    loader, nvram = system.child("loader"), system.child("nvram")
    efi = system.one_of("firmware", "efi") is not None
    pflash = loader is not None and loader.element.attributes.get("type") == "pflash"
    if efi or pflash or nvram:
        what = "the VM has a BIOS, and a guest that was installed under UEFI does not boot from it"
        system.note(
            Kind.TO_DO, f"UEFI: {what}; give its disk a BIOS boot loader first, or leave it where it is"
        )


def ends(domain: Node) -> Fields:
    """What becomes of a guest that ends by itself, as far as `restartPolicy` knows it."""
    off, reboot, crash = (domain.child(tag) for tag in ("on_poweroff", "on_reboot", "on_crash"))
    if reboot and reboot.enter().text != "restart":
        reboot.note(Kind.LOST, f"{reboot.text}: a guest that reboots is let do so here")
    if off and off.enter().text == "restart":
        if crash and crash.enter().text not in {"restart", "coredump-restart"}:
            crash.note(Kind.CHANGED, f"{crash.text}: restartPolicy: always starts it after a crash as well")
        return {"restart_policy": RestartPolicy.ALWAYS}
    if off and off.text != "destroy":
        off.note(Kind.CHANGED, f"{off.text}: a guest that shuts itself down is off here, and its disks stay")
    return _crash(crash)


def _crash(crash: Node | None) -> Fields:
    match crash.enter().text if crash else None:
        case "preserve" | "coredump-destroy" as word if crash:
            crash.note(Kind.CHANGED, f"{word}: restartPolicy: never; nothing is kept of its memory")
            return {"restart_policy": RestartPolicy.NEVER}
        case "coredump-restart" if crash:
            crash.note(Kind.CHANGED, "coredump-restart: it is started again, without a dump of its memory")
        case "destroy" if crash:
            usual = "destroy, libvirt's default: here a VM is started again after a crash"
            crash.note(Kind.CHANGED, f"{usual}; `restartPolicy: never` leaves it off")
        case str() as word if crash and word != "restart":
            crash.note(Kind.CHANGED, f"{word}: the VM is started again after a crash")
    return {}
