"""An adoption that knows no QEMU; it stands where `reconciler.control.adoption` stands."""

from __future__ import annotations

from dataclasses import dataclass, field

from reconciler.control.adoption import Adopted
from reconciler.model.errors import ImportRefusedError


@dataclass
class MemoryAdoption:
    """See `reconciler.api.ports.AdoptionPort`. `finds` is what lies behind sockets; `asked` what was asked for."""

    finds: dict[str, Adopted] = field(default_factory=dict)
    asked: list[tuple[str, str | None, bool]] = field(default_factory=list)

    def adopt(self, socket: str, name: str | None = None, *, dry_run: bool = False) -> Adopted:
        self.asked.append((socket, name, dry_run))
        if socket not in self.finds:
            raise ImportRefusedError(f"{socket}: No such file or directory")
        return self.finds[socket]
