"""An inspector that shows what it was told to show; it stands where `reconciler.control.inspector` stands."""

from __future__ import annotations

from dataclasses import dataclass, field

from reconciler.model.inspection import HostFacts, LogEnd, VMLogs

PNG = b"\x89PNG\r\n\x1a\nof a screen"
HOST = HostFacts(
    qemu_binary="qemu-system-x86_64",
    qemu_version="7.2.22",
    kvm=False,
    why="/dev/kvm: No such file or directory",
    qemu_user="reconciler-qemu",
    isolated=True,
    cpus=2,
    memory_bytes=8 * 1024**3,
    memory_available_bytes=3 * 1024**3,
)


@dataclass
class MemoryInspector:
    """See `reconciler.api.ports.InspectorPort`. `asked` are the limits that logs were asked for with."""

    screen: bytes | Exception = PNG
    facts: HostFacts = HOST
    asked: list[tuple[str, int, int]] = field(default_factory=list)

    def logs(self, name: str, max_bytes: int, lines: int) -> VMLogs:
        self.asked.append((name, max_bytes, lines))
        return VMLogs(LogEnd("warning\n", 8), LogEnd(), LogEnd("GUEST-READY\n", 70_000))

    def screenshot(self, name: str) -> bytes:
        if isinstance(self.screen, Exception):
            raise self.screen
        return self.screen

    def host(self) -> HostFacts:
        return self.facts
