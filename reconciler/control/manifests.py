"""Changes of manifests that somebody asks the agent for: create, edit, remove, restore. One at a time.

Each can be had as a rehearsal (`dry_run`), which checks everything and writes nothing. What becomes of the VM is for
the rounds: after a change, `Controller.ask`. Next: `reconciler.manifest.store`, which does it to the files.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from reconciler.control.board import Board
from reconciler.converge.ports import VncPorts
from reconciler.manifest.catalog import Catalog
from reconciler.manifest.decode import decode
from reconciler.manifest.edit import Changes, render_new
from reconciler.manifest.fields import written
from reconciler.manifest.nodes import Value
from reconciler.manifest.store import Expect, ManifestStore
from reconciler.model.errors import (
    ConflictError,
    ManifestError,
    PortConflictError,
    ReconcilerError,
    StateError,
)
from reconciler.model.observed import Fault, Medium
from reconciler.model.vm import DesiredVM, ManifestRef, Removal, VMSpec
from reconciler.storage.records import Records
from reconciler.storage.trash import Trash

log = logging.getLogger(__name__)

REMOVAL_TIMEOUT_S = 5.0
VNC_PORT = ("spec", "vncPort")


@dataclass(frozen=True)
class Tools:
    """What changes of manifests are made with.

    `look_at_iso` finds the ISO that a manifest would name; `scan` reads the manifests again.
    """

    catalog: Catalog
    store: ManifestStore
    records: Records
    trash: Trash
    ports: VncPorts
    board: Board
    look_at_iso: Callable[[str], Medium | Fault]
    scan: Callable[[], object]


class Manifests:
    """The one hand that changes manifests. Safe for any number of threads."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._one_at_a_time = threading.Lock()  # so that names and ports are given to one only

    def edit(self, name: str, changes: Changes, *, expect: Expect = None, dry_run: bool = False) -> DesiredVM:
        """Change fields of the VM's manifest; returns the VM as it is then described.

        Raises StateError where no manifest describes it, PortConflictError for a VNC port that another manifest
        names, ManifestError, PreconditionError, ConflictError or OSError.
        """
        with self._one_at_a_time:
            wanted = self._tools.catalog.wanted(name)
            if not isinstance(wanted, DesiredVM):
                raise StateError(f"{name}: no manifest describes this VM")
            if isinstance(port := changes.get(VNC_PORT), int):
                self._must_be_unclaimed(name, port)
            write = self._tools.store.preview if dry_run else self._tools.store.change
            try:
                return write(wanted.source, name, changes, expect)
            except ConflictError:
                self._tools.scan()  # it may stand in another file by now
                raise

    def create(self, name: str, spec: Mapping[str, Value], *, dry_run: bool = False) -> DesiredVM:
        """Make `<name>.yaml`; a spec without `vncPort` gets the lowest free one, written down.

        Raises ConflictError where the name or the file is taken, PortConflictError, ManifestError or OSError.
        """
        with self._one_at_a_time:
            self._tools.scan()
            self._must_be_free(name)
            port = spec.get("vncPort")
            if isinstance(port, int):
                self._must_be_unclaimed(name, port)
            else:
                port = self._tools.ports.offer(name)
            file, text = f"{name}.yaml", render_new(name, {**spec, "vncPort": port})
            if dry_run:
                return _decoded(text, file)
            self._tools.store.create(file, text)
            self._tools.ports.load(name, held=None, chosen=port)  # should the manifest not be read just yet
            self._tools.scan()
            return _decoded(text, file)

    def remove(self, name: str, *, discard: bool, expect: Expect = None, dry_run: bool = False) -> Removal:
        """Take the VM's manifest away for good, and with it the VM; `discard`: its disks too.

        A tombstone is durable before the manifest goes, so that an agent that dies in between leaves one that will
        finish. Raises StateError, ManifestError, PreconditionError, ConflictError or OSError, with all as before.
        """
        with self._one_at_a_time:
            wanted = self._tools.catalog.wanted(name)
            vm = wanted.last if isinstance(wanted, Removal) else wanted or self._orphan(name)
            discard = discard or (isinstance(wanted, Removal) and wanted.discard)
            has_manifest = isinstance(wanted, DesiredVM) and name not in self._tools.catalog.held()
            if has_manifest and (wrong := self._tools.catalog.problems_of(name)):
                raise ManifestError(wrong)
            if not dry_run:
                self._remove(vm, expect, has_manifest=has_manifest, discard=discard)
            return Removal(vm, discard)

    def restore(self, name: str, *, dry_run: bool = False) -> None:
        """Bring back the VM of this name that was set aside last: its disks, its identity and its manifest.

        Raises StateError where nothing was set aside, ConflictError where the name or the file is taken.
        """
        catalog = self._tools.catalog
        self._tools.board.wait_for(
            name, lambda _: not isinstance(catalog.wanted(name), Removal), REMOVAL_TIMEOUT_S
        )
        with self._one_at_a_time:
            match catalog.wanted(name):
                case Removal():
                    raise ConflictError(f"{name}: is being removed just now; try again when it is gone")
                case DesiredVM() if name in catalog.held():
                    raise ConflictError(
                        f"{name}: was never set aside: its removal is held; put its manifest back"
                    )
                case DesiredVM(source=source):
                    raise ConflictError(
                        f"{name}: {source} describes a VM of this name; remove or rename it first"
                    )
            if dry_run:
                self._tools.trash.find(name)
                return
            with self._tools.trash.taking_back(name) as (entry, text):
                self._tools.store.create(entry.file, text)
            self._tools.scan()

    def finish(self) -> None:
        """Go on with the removals that an agent died over, before any VM is looked at."""
        for name, tombstone in self._tools.catalog.unfinished().items():
            wanted = self._tools.catalog.wanted(name)
            if not isinstance(wanted, DesiredVM):
                continue
            try:
                expect = {tombstone.generation}
                self._remove(wanted, expect, has_manifest=True, discard=tombstone.discard)
                log.info("%s: its deletion, which was under way when the last agent ended, goes on", name)
            except (ReconcilerError, OSError) as error:
                log.warning("%s: its deletion was under way, and is given up: %s", name, error)

    def iso_fault(self, iso_path: str) -> Fault | None:
        """Why this ISO cannot be used; None where it can."""
        found = self._tools.look_at_iso(iso_path)
        return found if isinstance(found, Fault) else None

    # ---- parts ------------------------------------------------------------------------------------

    def _remove(self, vm: DesiredVM, expect: Expect, *, has_manifest: bool, discard: bool) -> None:
        catalog = self._tools.catalog
        catalog.entomb(vm, discard=discard)
        try:
            if has_manifest:
                self._tools.store.remove(vm.source, vm.name, expect)
        except BaseException:
            catalog.withdraw(vm.name)
            raise
        catalog.bury(vm.name)

    def _orphan(self, name: str) -> DesiredVM:
        """A VM that runs without a manifest, as its launch describes it. Raises StateError where there is none."""
        lifecycle = self._tools.records.lifecycle(name)
        if lifecycle is None or lifecycle.launch is None:
            raise StateError(f"{name}: there is no VM of this name")
        launch = lifecycle.launch
        text = render_new(name, written(launch.spec))
        return DesiredVM(name, launch.spec, launch.generation, ManifestRef(f"{name}.yaml"), text=text)

    def _must_be_free(self, name: str) -> None:
        match self._tools.catalog.wanted(name):
            case DesiredVM(source=source):
                raise ConflictError(f"{source} describes a VM of this name")
            case Removal():
                raise ConflictError(f"{name} is being removed just now; the name is free when it is gone")
        if self._tools.records.exists(name):
            raise ConflictError(
                f"a VM of this name has left its disk in the state directory; delete {name} first, or take another name"
            )

    def _must_be_unclaimed(self, name: str, port: int) -> None:
        if others := [other for other in self._tools.ports.claimants(port) if other != name]:
            raise PortConflictError(f"{port} is named by the manifest of {others[0]}")


def default_spec() -> dict[str, Value]:
    """The documented fields of a new VM, with their defaults; it does not run until it is started."""
    spec = VMSpec()
    return {
        "state": "stopped",
        "memory": spec.memory_mib,
        "cpuCores": spec.cpu_cores,
        "diskSize": spec.disk_size_gib,
        "networkType": spec.network_type.value,
    }


def _decoded(text: str, file: str) -> DesiredVM:
    """The VM of a new manifest. Raises ManifestError for one that cannot be used."""
    decoded = decode(text.encode("utf-8", "surrogatepass"), file)
    if decoded.problems:
        raise ManifestError(decoded.problems)
    return decoded.vms[0]
