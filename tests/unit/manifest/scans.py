"""Scans as values, without a disk: what the tests of claims and holdings are made of."""

from __future__ import annotations

from reconciler.manifest.decode import Decoded
from reconciler.manifest.seen import Deferred, FileView, RootState, Scan, Unreadable
from reconciler.model.vm import DesiredVM, ManifestRef, Problem, VMSpec

BEING_WRITTEN = Deferred("it is open for writing")
GIT_AT_WORK = Scan(RootState.PRESENT, settled=False)


def vm(
    name: str, file: str = "", *, generation: str = "1", protect: bool = False, port: int | None = None
) -> DesiredVM:
    """A desired VM, in the file of its name where none is said."""
    spec = VMSpec(protect=protect, vnc_port=port)
    return DesiredVM(name, spec, generation, ManifestRef(file or f"{name}.yaml"))


def good(*vms: DesiredVM) -> Decoded:
    """A file without problems."""
    return Decoded(vms, (), tuple(v.name for v in vms))


def broken(file: str, *names: str) -> Decoded:
    """A file with a problem, of which at most these names can be read."""
    return Decoded((), (Problem(file, 1, 1, "", "broken"),), names)


def unreadable(file: str) -> Unreadable:
    """A file, or with a slash at its end a directory, that cannot be read."""
    return Unreadable(Problem(file, 1, 1, "", "cannot be read"))


def scan(**files: FileView) -> Scan:
    """A sound scan: `web=…` is the file web.yaml."""
    return Scan(RootState.PRESENT, {f"{name}.yaml": view for name, view in files.items()})


def scan_of(*names: str) -> Scan:
    """A sound scan of one good file for each name."""
    return scan(**{name: good(vm(name)) for name in names})
