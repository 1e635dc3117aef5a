"""Giving a VM another name, in steps that each leave something an agent can go on from, should it die between two.

    the intent is noted in the VM's directory → the directory moves → the manifest is edited, and its file renamed
        → the old name is forgotten → the note goes

Until the directory has moved nothing has happened; from then on the next agent goes on with it, or takes it back where
the manifest cannot be edited. Who may be renamed is for `reconciler.control.manifests`, which calls this.
"""

from __future__ import annotations

import logging

from reconciler.converge.ports import VncPorts
from reconciler.manifest.catalog import Catalog
from reconciler.manifest.store import ManifestStore
from reconciler.model.errors import ReconcilerError
from reconciler.model.vm import DesiredVM
from reconciler.storage.records import Records

log = logging.getLogger(__name__)


def rename(store: ManifestStore, records: Records, vm: DesiredVM, new: str) -> DesiredVM:
    """Give this VM, which is off, another name, which is free; returns it as its manifest describes it then.

    The manifests have to be scanned, and the name completed (`complete`), afterwards. Raises ManifestError,
    ConflictError, StateError or OSError, with all as before.
    """
    if records.exists(vm.name):
        records.note_renaming(vm.name, new)
        records.move(vm.name, new)
    return _edit(store, records, vm, new)


def complete(catalog: Catalog, records: Records, ports: VncPorts, old: str, new: str) -> None:
    """The manifest bears the new name: nothing is left of the old one. Raises StateError."""
    catalog.renamed(old)
    ports.forget(old)
    identity = records.identity(new)
    ports.load(new, held=None, chosen=identity.vnc_port if identity else None)
    records.end_renaming(new)


def finish(catalog: Catalog, store: ManifestStore, records: Records, ports: VncPorts) -> bool:
    """Go on with what an agent died over; whether a manifest was edited, and all have to be read again."""
    edited = False
    for name in records.names():
        note = records.renaming(name)
        if note is None:
            continue
        try:
            if name == note.new:
                edited |= _go_on(catalog, store, records, ports, note.old, note.new)
            else:
                records.end_renaming(name)
        except (ReconcilerError, OSError) as error:
            log.warning("%s: its renaming from %s was under way, and is given up: %s", name, note.old, error)
    return edited


def _go_on(
    catalog: Catalog, store: ManifestStore, records: Records, ports: VncPorts, old: str, new: str
) -> bool:
    known, before = catalog.wanted(new), catalog.wanted(old)
    edited = not isinstance(known, DesiredVM) and isinstance(before, DesiredVM)
    if edited and isinstance(before, DesiredVM):
        _edit(store, records, before, new)
    complete(catalog, records, ports, old, new)
    log.info("%s: its renaming from %s, which was under way when the last agent ended, is done", new, old)
    return edited


def _edit(store: ManifestStore, records: Records, vm: DesiredVM, new: str) -> DesiredVM:
    """Edit the manifest, or move the directory back. Never both: the new name would get a blank disk then."""
    try:
        return store.rename(vm.source, vm.name, new)
    except BaseException as error:
        renamed = store.described(vm.source, new)
        if renamed is None and records.exists(new):
            records.move_back(new, vm.name)
            records.end_renaming(vm.name)
        if renamed is None or not isinstance(error, OSError):
            raise
        log.warning("%s: is called %s now, and that is perhaps not on the disk: %s", vm.name, new, error)
        return renamed
