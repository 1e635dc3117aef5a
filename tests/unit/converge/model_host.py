"""A model of one VM on a host: what each action does to what is seen next. The real host is tested in tests/e2e."""

from __future__ import annotations

from dataclasses import dataclass, replace

from reconciler.model.observed import (
    Alive,
    CdDrive,
    Disk,
    Exit,
    ExitKind,
    Fault,
    Gone,
    Identity,
    LaunchRecord,
    Lifecycle,
    Medium,
    ObservedVM,
    ProcessHandle,
    QemuView,
)
from reconciler.model.plan import (
    Action,
    ChangeMedium,
    CleanUp,
    Continue,
    CreateDisk,
    CreateIdentity,
    CutSerialLog,
    Discard,
    GrowDisk,
    Kill,
    Launch,
    Plan,
    PowerDown,
    Quit,
    Remember,
    SetAside,
    Terminate,
)
from reconciler.model.vm import Accel, DesiredVM, ManifestRef, VMSpec

GIB = 1024**3
IDENTITY = Identity("6e1a2f3c-0000-4000-8000-000000000001", "52:54:00:00:00:01", "pc-q35-7.2", {"disk0": 3})
HANDLE = ProcessHandle("boot-1", 4242, 99)


def desired(spec: VMSpec | None = None, generation: str = "g1", name: str = "web") -> DesiredVM:
    """A manifest's VM."""
    return DesiredVM(name, spec or VMSpec(), generation, ManifestRef(f"{name}.yaml"))


def record(wanted: DesiredVM, now_s: float = 0.0) -> LaunchRecord:
    """The record of a finished launch of `wanted`."""
    return LaunchRecord(
        uuid=IDENTITY.uuid,
        generation=wanted.generation,
        spec=wanted.spec,
        argv=("qemu",),
        accel=Accel.TCG,
        vnc_port=wanted.spec.vnc_port or 5900,
        qemu_version="7.2",
        requested_at="2026-01-01T00:00:00.000Z",
        requested_s=now_s,
        process=HANDLE,
        guest_ran=True,
    )


def medium(name: str) -> Medium:
    """An ISO that is there."""
    return Medium(f"/iso/{name}", f"iso-{name}")


def blank(now_s: float = 1000.0) -> ObservedVM:
    """A VM of which nothing exists yet."""
    return ObservedVM(
        "web", now_s, "2026-01-01T00:00:00.000Z", "boot-1", None, Lifecycle(), Gone(), None, None
    )


def stopped(wanted: DesiredVM, now_s: float = 1000.0) -> ObservedVM:
    """A VM that was made and does not run."""
    disk = Disk("/root.qcow2", wanted.spec.disk_size_gib * GIB)
    return replace(blank(now_s), identity=IDENTITY, disk=disk)


def running(wanted: DesiredVM, now_s: float = 1000.0, run_state: str = "running") -> ObservedVM:
    """A VM that was launched for `wanted` and runs."""
    inserted = medium(wanted.spec.medium) if wanted.spec.medium else None
    view = QemuView(run_state, CdDrive(inserted.node_name if inserted else None, False, False))
    return replace(
        stopped(wanted, now_s),
        lifecycle=Lifecycle(launch=record(wanted)),
        process=Alive(HANDLE, view),
        medium=inserted,
    )


@dataclass
class Host:
    """One VM on a host, seen and acted upon. `obeys` says whether the guest heeds the power button."""

    seen: ObservedVM
    obeys: bool = True

    def look(self, wanted: DesiredVM | None) -> ObservedVM:
        """What an observer would see now."""
        name = wanted.spec.medium if wanted else None
        return replace(self.seen, medium=medium(name) if name else None)

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.seen = replace(self.seen, now_s=self.seen.now_s + seconds)

    def act(self, action: Action) -> None:
        """Do one action."""
        match action:
            case Remember(lifecycle=lifecycle):
                self.seen = replace(self.seen, lifecycle=lifecycle)
            case CreateIdentity():
                self.seen = replace(self.seen, identity=IDENTITY)
            case CreateDisk(size_gib=size) | GrowDisk(size_gib=size):
                self.seen = replace(self.seen, disk=Disk("/root.qcow2", size * GIB))
            case Launch(desired=wanted):
                self._launch(wanted)
            case Continue():
                self._run_state("running")
            case ChangeMedium(medium=new):
                self._insert(new.node_name if new else None)
            case PowerDown():
                if self.obeys:
                    self._run_state("shutdown")
            case Quit() | Terminate() | Kill():
                self.seen = replace(self.seen, process=Gone(0))
            case SetAside() | Discard():
                self.seen = replace(blank(self.seen.now_s))
            case CleanUp() | CutSerialLog():
                pass
            case _:
                raise AssertionError(f"the model knows no {action!r}")

    def _launch(self, wanted: DesiredVM) -> None:
        assert isinstance(self.seen.process, Gone), "a second QEMU was started"
        assert not isinstance(self.seen.disk, Fault | None), "started without a disk"
        made = replace(record(wanted, self.seen.now_s), guest_ran=False)
        lifecycle = replace(self.seen.lifecycle, launch=made, stop=None, unanswered=False)
        inserted = medium(wanted.spec.medium).node_name if wanted.spec.medium else None
        view = QemuView("prelaunch", CdDrive(inserted, False, False))
        self.seen = replace(self.seen, lifecycle=lifecycle, process=Alive(HANDLE, view))

    def _run_state(self, state: str) -> None:
        assert isinstance(self.seen.process, Alive)
        view = replace(self.seen.process.qemu, run_state=state)
        self.seen = replace(self.seen, process=Alive(HANDLE, view))

    def _insert(self, node_name: str | None) -> None:
        assert isinstance(self.seen.process, Alive)
        view = replace(self.seen.process.qemu, cd=CdDrive(node_name, False, False))
        self.seen = replace(self.seen, process=Alive(HANDLE, view))


def after_exit(
    kind: ExitKind, spec: VMSpec | None = None, failures: int = 1, ago_s: float = 1.0
) -> ObservedVM:
    """A VM that ended `ago_s` seconds ago, unasked."""
    seen = stopped(desired(spec))
    end = Exit(kind, "g1", "it ended", seen.utc, seen.now_s - ago_s, seen.boot_id)
    return replace(seen, lifecycle=Lifecycle(last_exit=end, unanswered=True, failures=failures))


def text(plan: Plan) -> list[str]:
    """A plan as people read it, line by line."""
    return plan.render().splitlines()
