"""Changes of manifests that somebody asks the agent for: create, edit, remove, restore. One at a time.

Each can be had as a rehearsal (`dry_run`), which checks everything and writes nothing. What becomes of the VM is for
the rounds: after a change, `Controller.ask`. Next: `reconciler.manifest.store`, which does it to the files.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

from reconciler.control import renaming
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
    PreconditionError,
    ProtectedError,
    ReconcilerError,
    StateError,
)
from reconciler.model.observed import Fault, Medium
from reconciler.model.vm import DesiredVM, ManifestRef, PowerState, Removal, VMSpec, is_vm_name
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
            if VNC_PORT in changes:
                self._tools.scan()  # another edit may have taken the port just now
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

    def adopt(
        self,
        name: str,
        spec: Mapping[str, Value],
        recorded: Callable[[DesiredVM], AbstractContextManager[None]],
        *,
        dry_run: bool = False,
    ) -> DesiredVM:
        """Make `<name>.yaml` for a VM that runs already; `recorded` writes its records, and undoes that on failure.

        Raises as `create` does, or as `recorded`.
        """
        with self._one_at_a_time:
            self._tools.scan()
            self._must_be_free(name)
            if isinstance(port := spec.get("vncPort"), int):
                self._must_be_unclaimed(name, port)
            file, text = f"{name}.yaml", render_new(name, spec)
            vm = _decoded(text, file)
            if dry_run:
                return vm
            with recorded(vm):
                self._tools.store.create(file, text)
            self._tools.scan()
            return vm

    def remove(self, name: str, *, discard: bool, expect: Expect = None, dry_run: bool = False) -> Removal:
        """Take the VM's manifest away for good, and with it the VM; `discard`: its disks too.

        A tombstone is durable before the manifest goes, so that an agent that dies in between leaves one that will
        finish. Raises StateError, ManifestError, ProtectedError, PreconditionError, ConflictError or OSError, with all
        as before.
        """
        with self._one_at_a_time:
            self._tools.scan()  # what was saved a moment ago counts: `protect`, above all
            wanted = self._tools.catalog.wanted(name)
            vm = wanted.last if isinstance(wanted, Removal) else wanted or self._orphan(name)
            discard = discard or (isinstance(wanted, Removal) and wanted.discard)
            has_manifest = isinstance(wanted, DesiredVM) and name not in self._tools.catalog.held()
            if has_manifest and (wrong := self._tools.catalog.problems_of(name)):
                raise ManifestError(wrong)
            if vm.spec.protect:
                raise ProtectedError(f"{name}: spec.protect is true in its manifest")
            if expect is not None and not (has_manifest and vm.generation in expect):
                now = vm.generation if has_manifest else None
                raise PreconditionError(f"{name} is not as you have seen it; nothing was changed", now)
            if not dry_run:
                self._remove(vm, has_manifest=has_manifest, discard=discard)
            return Removal(vm, discard, asked=True)

    def rename(self, name: str, new: str, *, expect: Expect = None, dry_run: bool = False) -> DesiredVM:
        """Give a VM that is off another name; disks, identity and the manifest's file go with it.

        Raises StateError where that cannot be, with what to do first; ConflictError where the name is taken;
        ManifestError, PreconditionError or OSError.
        """
        tools = self._tools
        with self._one_at_a_time:
            tools.scan()
            vm = self._renameable(name, expect)
            self._must_be_free(new)
            if dry_run:
                return tools.store.rename(vm.source, name, new, dry_run=True)
            renamed = renaming.rename(tools.store, tools.records, vm, new)
            tools.scan()
            renaming.complete(tools.catalog, tools.records, tools.ports, name, new)
            log.info("%s: is called %s now", name, new)
            return renamed

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
        """Go on with the removals and renamings that an agent died over, before any VM is looked at."""
        tools = self._tools
        if renaming.finish(tools.catalog, tools.store, tools.records, tools.ports):
            tools.scan()
        for name, tombstone in self._tools.catalog.unfinished().items():
            wanted = self._tools.catalog.wanted(name)
            if not isinstance(wanted, DesiredVM):
                continue
            try:
                if self._tools.store.stamp(wanted.source) != tombstone.stamp:
                    raise ConflictError(f"{wanted.source.file} was written since")
                self._take_away(wanted)
                self._tools.catalog.bury(name)
                log.info("%s: its deletion, which was under way when the last agent ended, goes on", name)
            except (ReconcilerError, OSError) as error:
                with contextlib.suppress(StateError):
                    self._tools.catalog.withdraw(name)
                log.warning("%s: its deletion was under way, and is given up: %s", name, error)

    def is_leftover(self, name: str) -> bool:
        """Whether something is kept of a VM that no manifest describes any more."""
        known = self._tools.catalog.wanted(name) is not None
        return is_vm_name(name) and not known and self._tools.records.exists(name)

    def iso_fault(self, iso_path: str) -> Fault | None:
        """Why this ISO cannot be used; None where it can."""
        found = self._tools.look_at_iso(iso_path)
        return found if isinstance(found, Fault) else None

    # ---- parts ------------------------------------------------------------------------------------

    def _remove(self, vm: DesiredVM, *, has_manifest: bool, discard: bool) -> None:
        """Exactly the version that was looked at is removed. Raises ConflictError where it is another by now."""
        stamp = self._tools.store.stamp(vm.source) if has_manifest else ""
        self._tools.catalog.entomb(vm, discard=discard, stamp=stamp)
        if has_manifest:
            try:
                self._take_away(vm)
            except PreconditionError as error:
                raise ConflictError(f"{vm.source.file} was changed just now") from error
        self._tools.catalog.bury(vm.name)

    def _take_away(self, vm: DesiredVM) -> None:
        """Remove the manifest of a VM that is entombed already, or give its deletion up."""
        catalog = self._tools.catalog
        try:
            self._tools.store.remove(vm.source, vm.name, {vm.generation})
        except ConflictError:
            self._tools.scan()  # removed by hand? then its tomb is closed
            if not isinstance(catalog.wanted(vm.name), Removal):
                catalog.withdraw(vm.name)
                raise
        except BaseException:
            catalog.withdraw(vm.name)
            raise

    def _renameable(self, name: str, expect: Expect) -> DesiredVM:
        """The VM, if it may get another name now. Raises StateError, ManifestError or PreconditionError."""
        catalog = self._tools.catalog
        wanted = catalog.wanted(name)
        if not isinstance(wanted, DesiredVM) or name in catalog.held():
            raise StateError(f"{name}: no manifest describes this VM")
        if wrong := catalog.problems_of(name):
            raise ManifestError(wrong)
        if expect is not None and wanted.generation not in expect:
            raise PreconditionError(f"{name} is not as you have seen it", wanted.generation)
        lifecycle = self._tools.records.lifecycle(name)
        if wanted.spec.state is not PowerState.STOPPED or (lifecycle and lifecycle.launch):
            raise StateError(f"{name}: only a VM that is off can be renamed: `reconciler stop {name}` first")
        if later := catalog.dependents(name):
            raise StateError(
                f"{name}: named in spec.dependsOn of {', '.join(later)}: take it out there first"
            )
        return wanted

    def _orphan(self, name: str) -> DesiredVM:
        """A VM without a manifest, as its launch describes it, if it runs. Raises StateError where there is none."""
        if not self._tools.records.exists(name):
            raise StateError(f"{name}: there is no VM of this name")
        lifecycle = self._tools.records.lifecycle(name)
        launch = lifecycle.launch if lifecycle else None
        spec = launch.spec if launch else VMSpec(state=PowerState.STOPPED)
        file, text = f"{name}.yaml", render_new(name, written(spec))
        return DesiredVM(name, spec, launch.generation if launch else "", ManifestRef(file), text=text)

    def _must_be_free(self, name: str) -> None:
        match self._tools.catalog.wanted(name):
            case DesiredVM(source=source):
                raise ConflictError(f"{source} describes a VM of this name")
            case Removal():
                raise ConflictError(f"{name} is being removed just now; the name is free when it is gone")
        if file := self._tools.catalog.file_naming(name):
            raise ConflictError(f"{file} names a VM of this name, and cannot be used as it is")
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
