"""The composition root: builds the parts, starts them and stops them. Nothing else wires anything together.

To see what the agent does, read `reconciler.converge.reconcile`; to see what asks for it, `reconciler.control`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from reconciler import durable, heartbeat
from reconciler.api import server
from reconciler.api.listen import Listen, Listening
from reconciler.api.ports import Backend
from reconciler.clock import Clock, SystemClock
from reconciler.console.consoles import Consoles
from reconciler.console.services import Services, Setup, end_all
from reconciler.console.targets import Targets
from reconciler.console.tokens import Tokens
from reconciler.control.adoption import Adoption
from reconciler.control.board import Board
from reconciler.control.controller import Controller, Parts, publisher
from reconciler.control.inspector import Inspector
from reconciler.control.queue import WorkQueue
from reconciler.converge.accelerator import Accelerator
from reconciler.converge.adjust import Adjuster
from reconciler.converge.doors import Doors
from reconciler.converge.executor import Executor
from reconciler.converge.launch import Launcher, LaunchStep
from reconciler.converge.observer import Observer
from reconciler.converge.order import Order
from reconciler.converge.ports import VncPorts
from reconciler.converge.reconcile import Reconciler
from reconciler.heartbeat import NOBODY, SIGN_TIMEOUT_S, Ending, Manager, Sign
from reconciler.layout import SUN_PATH_MAX, Layout
from reconciler.lock import AgentLock, end_holder
from reconciler.manifest.catalog import Catalog
from reconciler.manifest.departures import Rules
from reconciler.manifest.scan import Scanner
from reconciler.manifest.store import ManifestStore
from reconciler.manifest.watch import Watcher
from reconciler.model.errors import SettingsError, StateError
from reconciler.model.plan import Wish
from reconciler.model.status import VMState, VMStatus
from reconciler.model.vm import DesiredVM, PowerState, Wanted
from reconciler.network.firewall import Firewall
from reconciler.network.nft import VncRules, table_name
from reconciler.qemu import binary
from reconciler.qemu.accel import Prover, kvm_groups
from reconciler.qemu.exits import ExitWatch
from reconciler.qemu.images import Images
from reconciler.qemu.monitor import CONNECTION_LOST, Monitors
from reconciler.qemu.process import Processes, raise_descriptor_limit
from reconciler.qemu.view import TELLING_EVENTS
from reconciler.settings import Settings
from reconciler.storage.records import Records
from reconciler.storage.trash import Trash

log = logging.getLogger(__name__)

Checkpoint = Callable[[LaunchStep], None]


def run(settings: Settings, manager: Manager = NOBODY, *, checkpoint: Checkpoint = lambda _: None) -> int:
    """Run the agent until SIGINT or SIGTERM; the exit status. VMs go on when it ends.

    `manager` hears how it is, `checkpoint` is told of each step of a launch. Raises SettingsError or StateError
    where it cannot begin.
    """
    raise_descriptor_limit()
    ending = Ending()
    with built(settings, checkpoint) as parts:
        api = server.build(_backend(parts), settings)
        watcher = Watcher(settings.manifests, settings.rescan_s, parts.controller.watch)
        parts.accelerator.start()
        _read_manifests(parts.controller)
        parts.controller.manifests.finish()
        parts.consoles.resume()
        parts.controller.start()
        watcher.start()
        api.start()
        _announce(parts.layout, settings, api.addresses)
        heartbeat.serve(manager, _signs(parts, api, watcher), ending.wait)
        log.info("ending; the VMs go on")
        api.close()
        watcher.stop()
    return 0


def host_shutdown(settings: Settings, timeout_s: float) -> int:
    """End the running agent, if there is one, and stop every VM; their manifests stay as they are, and unread.

    Returns 0 when every VM is off within `timeout_s`, else 1.
    """
    layout = Layout(settings.state_dir, settings.run_dir)
    end_holder(layout.lock)
    with built(settings, lambda _: None, overrule=_stopped) as parts:
        controller = parts.controller
        names = parts.records.names()
        for name in names:
            if controller.wanted(name) is None:
                controller.look(name, Wish.STOP)
        controller.start()
        done = controller.board.wait_for_all(lambda found: _all_off(parts.records, names, found), timeout_s)
        for status in controller.board.all():
            if not _is_off(status):
                log.error("%s: is still %s", status.name, status.state)
    end_all(layout.consoles)
    return 0 if done else 1


@dataclass(frozen=True)
class Built:
    """What `run` and `host_shutdown` need of the parts."""

    layout: Layout
    records: Records
    accelerator: Accelerator
    controller: Controller
    inspector: Inspector
    consoles: Consoles
    monitors: Monitors
    adoption: Adoption


@contextlib.contextmanager
def built(
    settings: Settings, checkpoint: Checkpoint, overrule: Callable[[Wanted], Wanted] = lambda wanted: wanted
) -> Iterator[Built]:
    """All parts of an agent, which holds the lock of its state directory as long as they exist."""
    layout = Layout(settings.state_dir, settings.run_dir)
    _make_directories(layout)
    with contextlib.ExitStack() as stack:
        stack.enter_context(AgentLock(layout.lock))
        for directory in (settings.state_dir, settings.run_dir, settings.manifests):
            durable.sweep(directory)
        queue, board = WorkQueue(), Board()
        clock = SystemClock()
        catalog = _catalog(settings, layout, clock)
        doors = _doors(settings, layout, clock, catalog, queue, stack)
        launcher = _launcher(settings, doors, checkpoint)
        executor = Executor(
            doors,
            launcher,
            Adjuster(doors),
            binary.machine_type(settings.qemu_binary),
            catalog.forget,
        )
        consoles = _consoles(settings, layout, clock)
        stack.callback(consoles.close)
        order = Order(board.get, catalog.wanted, catalog.dependents, going_down=overrule is _stopped)
        publish = publisher(board, doors.records, consoles.hear, _nudging(order, queue.add))
        reconciler = Reconciler(Observer(doors, order), executor, publish, settings.resync_s)
        store = ManifestStore(settings.manifests)
        parts = Parts(
            catalog=catalog,
            store=store,
            records=doors.records,
            trash=doors.trash,
            board=board,
            queue=queue,
            reconciler=reconciler,
            clock=doors.clock,
            ports=doors.ports,
            overrule=overrule,
        )
        controller = Controller(parts, settings.workers)
        stack.callback(controller.stop)
        yield Built(
            layout=layout,
            records=doors.records,
            accelerator=launcher.accelerator,
            controller=controller,
            inspector=Inspector(doors, launcher),
            consoles=consoles,
            monitors=doors.monitors,
            adoption=Adoption(doors, controller.manifests, executor.machine_type),
        )


def _backend(parts: Built) -> Backend:
    """What the API is made of."""
    return Backend(
        parts.controller, parts.controller.manifests, parts.inspector, parts.consoles, parts.adoption
    )


def _consoles(settings: Settings, layout: Layout, clock: Clock) -> Consoles:
    """The consoles, on the names that the API goes by as well: who came by one of them follows a link with it."""
    listen = Listen(settings.console_listen.strip("[]").lower(), 0)
    names = (
        listen.names()
        | Listening.parse(settings.listen).names()
        | {h.lower() for h in settings.allowed_hosts}
    )
    setup = Setup(
        layout=layout,
        addresses=listen.addresses(),
        names=frozenset(names),
        origins=frozenset(o.lower().rstrip("/") for o in settings.allowed_origins),
        qemu_uid=settings.qemu_uid,
        qemu_binary=settings.qemu_binary,
    )
    return Consoles(Services(setup), Tokens(layout.consoles, clock), Targets(layout.consoles))


def _catalog(settings: Settings, layout: Layout, clock: Clock) -> Catalog:
    scanner = Scanner(settings.manifests, clock)
    return Catalog(layout, settings.manifests, scanner, clock, Rules(confirm_s=settings.rescan_s))


def _doors(
    settings: Settings,
    layout: Layout,
    clock: Clock,
    catalog: Catalog,
    queue: WorkQueue,
    stack: contextlib.ExitStack,
) -> Doors:
    """The doors to the outside world; what happens behind them puts names on the queue."""
    records, processes = Records(layout), Processes()
    monitors = Monitors(_telling(queue.add))
    stack.callback(monitors.close)
    exits = ExitWatch(processes, queue.add)
    stack.callback(exits.close)
    ports = _ports(records, catalog, queue.add)
    firewall = _firewall(settings, ports)
    stack.callback(firewall.close)
    firewall.start()
    return Doors(
        layout=layout,
        records=records,
        trash=Trash(layout),
        processes=processes,
        monitors=monitors,
        exits=exits,
        images=Images(settings.qemu_user),
        ports=ports,
        firewall=firewall,
        clock=clock,
        iso_roots=(layout.images, *settings.iso_roots),
    )


def _launcher(settings: Settings, doors: Doors, checkpoint: Checkpoint) -> Launcher:
    version = binary.version(settings.qemu_binary)
    prover = Prover(settings.qemu_binary, version, doors.clock.boot_id, settings.qemu_user, kvm_groups())
    accelerator = Accelerator(lambda: prover.prove(doors.layout.accel))
    return Launcher(doors, settings.qemu_binary, version, settings.qemu_user, accelerator, checkpoint)


def _ports(records: Records, catalog: Catalog, look: Callable[[str], None]) -> VncPorts:
    """The book of ports, with what earlier launches hold; a record that cannot be read is told by its own round."""
    ports = VncPorts(catalog.vnc_claims, look)
    for name in records.names():
        with contextlib.suppress(StateError):
            identity, lifecycle = records.identity(name), records.lifecycle(name)
            held = lifecycle.launch.vnc_port if lifecycle and lifecycle.launch else None
            ports.load(name, held=held, chosen=identity.vnc_port if identity else None)
    return ports


def _firewall(settings: Settings, ports: VncPorts) -> Firewall:
    """What closes VNC ports to guests, where a rule can tell QEMU from others."""
    uid = settings.qemu_uid
    rules = None if uid is None else VncRules(table_name(settings.state_dir), uid)
    return Firewall(rules, ports.held)


def _read_manifests(controller: Controller) -> None:
    """The first look, before any VM is acted upon: what an earlier agent knew may be long past."""
    try:
        controller.scan()
    except StateError as error:
        log.error("the manifests' last good versions stay in force: %s", error)


def _signs(parts: Built, api: server.Server, watcher: Watcher) -> tuple[Sign, ...]:
    """Those without whom VMs would be looked after no more, though the process goes on."""
    return (
        Sign("the workers", parts.controller.works),
        Sign("the QMP loop", lambda: parts.monitors.answers(SIGN_TIMEOUT_S)),
        Sign("the API", lambda: api.answers(SIGN_TIMEOUT_S)),
        Sign("the watcher of the manifests", watcher.watches),
    )


def _telling(look: Callable[[str], None]) -> Callable[[str, str], None]:
    """What hears QMP's events: those that may change what is seen of a VM ask for a look at it."""

    def hear(name: str, event: str) -> None:
        if event in TELLING_EVENTS or event == CONNECTION_LOST:
            look(name)

    return hear


def _nudging(order: Order, look: Callable[[str], None]) -> Callable[[VMStatus | None, VMStatus], None]:
    """What hears that a VM came to be ready, or off, and asks for a look at those for whom that is news."""

    def hear(before: VMStatus | None, now: VMStatus) -> None:
        for name in order.neighbours(before, now):
            look(name)

    return hear


def _make_directories(layout: Layout) -> None:
    """The agent's own directories, readable by nobody else. Raises SettingsError."""
    os.umask(0o077)
    longest = layout.sockets("0" * 12).guest_agent
    if len(os.fsencode(longest.absolute())) > SUN_PATH_MAX:
        raise SettingsError(
            f"runDir: {layout.run_dir} is too long: the path of a socket in it, {longest}, "
            f"may have {SUN_PATH_MAX} bytes; choose a shorter one with --run-dir"
        )
    for path in (layout.state_dir, layout.vms, layout.iso, layout.images, layout.trash, layout.run_dir):
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise SettingsError(
                f"{path}: cannot be made: {error.strerror}; choose another directory"
            ) from error


def _announce(layout: Layout, settings: Settings, addresses: tuple[str, ...]) -> None:
    """Say where the API is: to the command line by a file, to the one who started the agent in words."""
    said = {"url": addresses[0], "addresses": addresses, "pid": os.getpid()}
    try:
        durable.write(layout.address, json.dumps(said).encode() + b"\n")
    except OSError as error:
        log.warning(
            "%s: cannot be written (%s): give the command line --server %s",
            layout.address,
            error,
            addresses[0],
        )
    log.info("listening on %s, manifests in %s", " and ".join(addresses), settings.manifests)


def _stopped(wanted: Wanted) -> Wanted:
    """The same VM, switched off: what a host that shuts down wants, whatever the manifests say."""
    if isinstance(wanted, DesiredVM):
        return replace(wanted, spec=replace(wanted.spec, state=PowerState.STOPPED, suspend=False))
    return wanted


def _all_off(records: Records, names: Sequence[str], found: Sequence[VMStatus]) -> bool:
    """Whether each of these VMs was seen off, or is no more."""
    off = {status.name for status in found if _is_off(status)}
    return all(name in off or not records.exists(name) for name in names)


def _is_off(status: VMStatus) -> bool:
    return status.state in (VMState.STOPPED, VMState.FAILED)
