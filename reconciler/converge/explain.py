"""Every field of a VM in three columns: its manifest, what its QEMU was launched with, what QEMU says now. Pure.

All of it is read from the one table, `reconciler.converge.fields`.
"""

from __future__ import annotations

from reconciler.converge import imported
from reconciler.converge.changes import Running
from reconciler.converge.fields import FIELDS, Field
from reconciler.converge.running import as_running
from reconciler.model.inspection import FieldView
from reconciler.model.observed import LaunchRecord, ObservedVM
from reconciler.model.vm import DesiredVM, VMSpec


def explain(desired: DesiredVM | None, seen: ObservedVM) -> tuple[FieldView, ...]:
    """Each field of the VM, in the order of the table."""
    spec = desired.spec if desired else None
    return tuple(_row(field, spec, seen.lifecycle.launch, as_running(seen)) for field in FIELDS)


def _row(field: Field, spec: VMSpec | None, record: LaunchRecord | None, vm: Running | None) -> FieldView:
    pending = imported.bring(field, vm, spec).pending if vm and spec else None
    return FieldView(
        field=field.name,
        manifest=field.show(spec) if spec else None,
        launched=_launched(field, record) if record else None,
        now=field.now(vm) if vm and field.now else None,
        reach=field.reach.value,
        how=field.how,
        pending=str(pending) if pending else None,
    )


def _launched(field: Field, record: LaunchRecord) -> str:
    return field.launched(record) if field.launched else field.show(record.spec)
