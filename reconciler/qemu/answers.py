"""Asking QEMU, and picking its answers apart without trusting them: a broken QEMU may answer anything.

`Execute` is what a session of `reconciler.qemu.monitor` offers, and all that `view` and `media` know of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, TypeVar

from reconciler.model.errors import QemuError

Answer = Mapping[str, object]
T = TypeVar("T")


class Execute(Protocol):
    """Run one QMP command of one VM. `fd` travels along (add-fd, getfd). Raises QemuError."""

    def __call__(
        self, command: str, arguments: Mapping[str, object] | None = None, *, fd: int | None = None
    ) -> object: ...


def mapping(value: object, what: str) -> Answer:
    """`value`, which has to be an object. Raises QemuError naming `what` was asked."""
    if not isinstance(value, dict):
        raise _not_understood(what, value)
    return value


def mappings(value: object, what: str) -> list[Answer]:
    """`value`, which has to be a list of objects."""
    if not isinstance(value, list):
        raise _not_understood(what, value)
    return [mapping(item, what) for item in value]


def member(answer: Answer, key: str, kind: type[T], what: str) -> T:
    """A member that has to be there, of its kind."""
    value = answer.get(key)
    if not isinstance(value, kind):
        raise _not_understood(f"{what}: {key}", value)
    return value


def _not_understood(what: str, value: object) -> QemuError:
    return QemuError(f"QEMU's answer to {what} is not understood: {value!r:.200}")
