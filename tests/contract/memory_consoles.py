"""Consoles that exist in memory only; they stand where `reconciler.console` stands."""

from __future__ import annotations

from dataclasses import dataclass, field

from reconciler.model.console import Gateway


@dataclass
class MemoryConsoles:
    """See `reconciler.api.ports.ConsolesPort`. `broken` is raised where a service is asked for."""

    granted: list[str] = field(default_factory=list)
    broken: Exception | None = None

    def serve(self, web_port: int) -> Gateway:
        if self.broken:
            raise self.broken
        return Gateway(4711, web_port)

    def grant(self, name: str) -> str:
        self.granted.append(name)
        return f"token{len(self.granted)}"
