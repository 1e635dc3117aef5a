"""A model of one VM on a host: what each action does to what is seen next. The real host is tested in tests/e2e."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from reconciler.model.adjust import Adjust, ChangeMedium, CreateDataDisk, MoveVnc, PlugDisk, PlugNic
from reconciler.model.adjust import remembered as after
from reconciler.model.observed import (
    Alive,
    CdDrive,
    Disk,
    DiskView,
    Exit,
    ExitKind,
    Fault,
    Gone,
    Hardware,
    Identity,
    LaunchRecord,
    Lifecycle,
    Medium,
    MemoryView,
    ObservedVM,
    ProcessHandle,
    QemuView,
)
from reconciler.model.plan import (
    Action,
    CleanUp,
    Continue,
    CreateDisk,
    CreateIdentity,
    CutSerialLog,
    Discard,
    GrowDisk,
    KeepCrash,
    KeepScreen,
    Kill,
    Launch,
    Plan,
    PowerDown,
    Quit,
    Remember,
    ReplaceDisk,
    SetAside,
    Terminate,
)
from reconciler.model.vm import Accel, DesiredVM, ManifestRef, VMSpec
from reconciler.qemu.pluggable import with_ports
from tests.unit.converge import model_qemu

MIB, GIB = 1024**2, 1024**3
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


def hardware_of(spec: VMSpec, vnc_port: int | None = 5900) -> Hardware:
    """What QEMU says when it was launched for this spec, and its guest has done nothing yet."""
    extra = ((spec.max_memory_mib or spec.memory_mib) - spec.memory_mib) // 2 * 2 * MIB
    devices = ["disk0", "cd0", "nic0", *(f"port{n}" for n in range(8)), *(["vmem0"] if extra else [])]
    disks = [DiskView("disk0", "/machine/peripheral/disk0/virtio-backend", "disk0", spec.disk_size_gib * GIB)]
    hardware = Hardware(
        cpus=spec.cpu_cores,
        cpus_max=spec.most_cpu_cores,
        memory=MemoryView(spec.memory_mib * MIB, spec.memory_mib * MIB, pluggable_bytes=extra),
        disks=tuple(disks),
        devices=frozenset(devices),
        nodes=frozenset({"disk0", "disk0_file"}),
        netdevs=frozenset({"net0"}),
        forwards=spec.port_forwards,
        vnc_port=spec.vnc_port or vnc_port,
        boot_order=spec.boot_order,
        cpus_online=spec.cpu_cores,
    )
    for disk in spec.disks:
        hardware = model_qemu.with_disk(hardware, disk.name, disk.size_gib * GIB)
    for nic in spec.nics:
        hardware = model_qemu.with_nic(hardware, nic.name)
    return hardware


def running(wanted: DesiredVM, now_s: float = 1000.0, run_state: str = "running") -> ObservedVM:
    """A VM that was launched for `wanted` and runs."""
    inserted = medium(wanted.spec.medium) if wanted.spec.medium else None
    view = QemuView(
        run_state,
        CdDrive(inserted.node_name if inserted else None, False, False),
        hardware_of(wanted.spec),
    )
    disks: dict[str, Disk | Fault | None] = {
        disk.name: Disk(f"/{disk.name}", disk.size_gib * GIB) for disk in wanted.spec.disks
    }
    return replace(
        stopped(wanted, now_s),
        identity=with_ports(IDENTITY, wanted.spec),
        data_disks=disks,
        vnc_offer=wanted.spec.vnc_port or 5900,
        lifecycle=Lifecycle(launch=record(wanted)),
        process=Alive(HANDLE, view),
        medium=inserted,
    )


def with_hardware(seen: ObservedVM, hardware: Hardware) -> ObservedVM:
    """The same VM, whose QEMU says this of its devices."""
    assert isinstance(seen.process, Alive)
    view = replace(seen.process.qemu, hardware=hardware)
    return replace(seen, process=Alive(HANDLE, view))


@dataclass
class Host:
    """One VM on a host, seen and acted upon. `obeys` says whether the guest heeds the power button, and gives back what
    it is asked for.
    """

    seen: ObservedVM
    obeys: bool = True
    files: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, disk in self.seen.data_disks.items():
            if isinstance(disk, Disk):
                self.files[name] = disk.virtual_size_bytes

    def look(self, wanted: DesiredVM | None) -> ObservedVM:
        """What an observer would see now."""
        name = wanted.spec.medium if wanted else None
        disks: dict[str, Disk | Fault | None] = {
            disk.name: Disk(f"/{disk.name}", self.files[disk.name]) if disk.name in self.files else None
            for disk in (wanted.spec.disks if wanted else ())
        }
        record = self.seen.lifecycle.launch
        port = record.vnc_port if record else None
        return replace(self.seen, medium=medium(name) if name else None, data_disks=disks, vnc_offer=port)

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.seen = replace(self.seen, now_s=self.seen.now_s + seconds)

    def act(self, action: Action) -> None:  # noqa: PLR0912  (a case for each kind of action)
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
            case CreateDataDisk(disk=disk):
                self.files[disk.name] = disk.size_gib * GIB
            case Adjust():
                self._adjust(action)
            case PowerDown():
                if self.obeys:
                    self._run_state("shutdown")
            case Quit() | Terminate() | Kill():
                self.seen = replace(self.seen, process=Gone(0))
            case ReplaceDisk():
                self.seen = replace(self.seen, disk=None)
            case SetAside() | Discard():
                self.seen = replace(blank(self.seen.now_s))
            case CleanUp() | CutSerialLog() | KeepScreen() | KeepCrash():
                pass
            case _:
                raise AssertionError(f"the model knows no {action!r}")

    def _launch(self, wanted: DesiredVM) -> None:
        assert isinstance(self.seen.process, Gone), "a second QEMU was started"
        assert not isinstance(self.seen.disk, Fault | None), "started without a disk"
        made = replace(record(wanted, self.seen.now_s), guest_ran=False)
        lifecycle = replace(self.seen.lifecycle, launch=made, stop=None, unanswered=False)
        inserted = medium(wanted.spec.medium).node_name if wanted.spec.medium else None
        view = QemuView("prelaunch", CdDrive(inserted, False, False), hardware_of(wanted.spec, made.vnc_port))
        for disk in wanted.spec.disks:
            assert disk.name in self.files, "started without a data disk"
        identity = with_ports(self.seen.identity or IDENTITY, wanted.spec)
        self.seen = replace(self.seen, lifecycle=lifecycle, process=Alive(HANDLE, view), identity=identity)

    def _adjust(self, action: Adjust) -> None:
        assert isinstance(self.seen.process, Alive)
        view = self.seen.process.qemu
        if isinstance(action, ChangeMedium):
            self._insert(action.medium.node_name if action.medium else None)
        else:
            assert view.hardware
            hardware = model_qemu.adjusted(view.hardware, action, obeys=self.obeys)
            self.seen = replace(self.seen, process=Alive(HANDLE, replace(view, hardware=hardware)))
        if isinstance(action, PlugDisk | PlugNic):
            assert self.seen.identity
            self.seen = replace(self.seen, identity=model_qemu.with_port(self.seen.identity, action))
        memory = after(self.seen.lifecycle, action, self.seen.now_s)
        if isinstance(action, MoveVnc) and memory.launch:
            memory = replace(memory, launch=replace(memory.launch, vnc_port=action.port))
        self.seen = replace(self.seen, lifecycle=memory)

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


def remembered(plan: Plan) -> Lifecycle:
    """What a plan makes durable; it does so once."""
    (found,) = [action.lifecycle for action in plan.actions if isinstance(action, Remember)]
    return found
