"""`import`: other programs' VMs as manifests. The manifest is data; what does not carry over is said.

The conversion is `reconciler.importing`; here files are read, images looked at, and the manifest written. A QEMU that
runs is taken over by the agent, which keeps it from then on: `reconciler.control.adoption`.
"""

from __future__ import annotations

import os
import shlex
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from reconciler.cli.client import Agent, Answer
from reconciler.cli.config import Host, load
from reconciler.cli.options import OF_CLIENTS, settings_options
from reconciler.cli.output import say
from reconciler.importing.outcome import ROOT_DISK, Imported, Kind
from reconciler.layout import VMDir

STDIO = "-"


@click.command("import", short_help="Make a manifest of another program's VM.")
@click.option(
    "--libvirt", "source", metavar="FILE", help="A domain, as `virsh dumpxml NAME` prints it; - reads it."
)
@click.option(
    "--qmp", "socket", metavar="SOCKET", help="The QMP socket of a QEMU that runs; the agent takes it over."
)
@click.option("--name", help="What to call the VM; left out: as it was called, made valid.")
@click.option(
    "--output",
    default=STDIO,
    metavar="PATH",
    help="Where the manifest goes: a new file, or a directory, in which it is NAME.yaml.  [default: standard output]",
)
@settings_options(("stateDir", *OF_CLIENTS))
def import_(
    source: str | None, socket: str | None, name: str | None, output: str, **flags: str | None
) -> None:
    """Make a manifest of another program's VM, and list what does not carry over.

    --libvirt needs no agent, and changes and copies nothing: the VM stays where it is, its disks are yours to bring.

    --qmp has the agent take over a QEMU that somebody started by hand, which runs on, and write its manifest.
    """
    from reconciler.model.vm import is_vm_name

    if name is not None and not is_vm_name(name):
        raise click.UsageError(f"--name: found {name!r}, expected letters, digits, dots, dashes, underscores")
    match source, socket:
        case None, str(path) if output == STDIO:
            _take_over(Agent.of(load(flags, Host.current())), path, name)
        case None, str():
            raise click.UsageError("--output: with --qmp, the agent writes the manifest where it reads them")
        case str(file), None:
            _convert(file, name, output, load(flags, Host.current()).state_dir / "vms")
        case _:
            raise click.UsageError(
                "say what to import: --qmp SOCKET, --libvirt FILE.xml, or virsh dumpxml NAME | … --libvirt -"
            )


def _convert(source: str, name: str | None, output: str, home: Path) -> None:
    """Write the manifest of a libvirt domain, and say the rest. Raises ReconcilerError."""
    shown = "<stdin>" if source == STDIO else source
    imported = _from_libvirt(source, shown, name)
    where = _put(imported, output)
    for line in _report(imported, shown):
        say(line)
    for line in _commands(imported, VMDir(home / imported.name)):
        say(line)
    say(f"{imported.name}: {where}")


def _take_over(agent: Agent, socket: str, name: str | None) -> None:
    """Have the agent take over a QEMU. Raises AgentError."""
    answer = agent.post("/api/import", {"qmp": os.path.abspath(socket), "name": name})
    for line in _told(answer["notes"]):
        say(line)
    vm = answer["vm"]
    how = f"runs on as pid {vm['pid']}" if vm and vm["pid"] else "runs on"
    say(f"{answer['name']}: {how}; its manifest is {answer['name']}.yaml")


def _told(notes: list[Answer]) -> Iterator[str]:
    """The agent's notes, the most urgent first."""
    for kind in Kind:
        mine = [note for note in notes if note["kind"] == kind.name]
        if mine:
            yield f"{kind.value} ({len(mine)}):"
        yield from (f"  {note['place']}: {note['message']}" for note in mine)


def _from_libvirt(source: str, shown: str, name: str | None) -> Imported:
    from reconciler.importing import libvirt

    domain = libvirt.parse(_read(source), shown)
    found = {path: virtual_size(path, form) for path, form in libvirt.image_formats(domain).items()}
    sizes = {path: size for path, size in found.items() if size is not None}
    return libvirt.convert(domain, shown, name=name, sizes=sizes)


def _read(source: str) -> bytes:
    """The file, or so much of it that it is too long. Raises ImportRefusedError."""
    from reconciler.importing.tree import MAX_BYTES
    from reconciler.model.errors import ImportRefusedError

    if source == STDIO:
        return sys.stdin.buffer.read(MAX_BYTES + 1)
    try:
        with Path(source).open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ImportRefusedError(f"{source}: cannot be read: {error.strerror}") from error


def virtual_size(path: str, form: str) -> int | None:
    """The size in bytes of the disk in an image, or None where it cannot be found out. No program runs.

    The path and the format are a stranger's words: nothing but a file or a disk is opened, and for reading only.
    """
    from reconciler.model.errors import ImageError
    from reconciler.qemu import qcow2

    try:
        kind = os.stat(path).st_mode
        if not os.path.isabs(path) or not (stat.S_ISREG(kind) or stat.S_ISBLK(kind)):
            return None
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        with os.fdopen(descriptor, "rb", buffering=0) as image:
            match form:
                case "raw":
                    return image.seek(0, os.SEEK_END)
                case "qcow2":
                    return qcow2.stated_size(os.pread(descriptor, qcow2.HEAD_BYTES, 0), path)
                case _:
                    return None
    except (OSError, ValueError, ImageError):
        return None


def _put(imported: Imported, output: str) -> str:
    """Write the manifest; says where. Raises ManifestError, and ConflictError where there is such a file."""
    text = _manifest(imported)
    if output == STDIO:
        click.echo(text, nl=False)
        return "the manifest is on standard output"
    from reconciler import durable
    from reconciler.model.errors import ConflictError, StateError

    path = Path(output) / f"{imported.name}.yaml" if Path(output).is_dir() else Path(output)
    try:
        durable.create(path, text.encode(), mode=0o644)
    except FileExistsError as error:
        raise ConflictError(f"{path} exists already; it was left as it is") from error
    except OSError as error:
        raise StateError(f"{path}: cannot be written: {error.strerror}") from error
    return f"its manifest is {path}"


def _manifest(imported: Imported) -> str:
    """The text of the manifest, read back as strictly as any. Raises ManifestError."""
    from reconciler.manifest.decode import decode
    from reconciler.manifest.edit import render_new
    from reconciler.manifest.fields import written
    from reconciler.model.errors import ManifestError

    text = render_new(imported.name, written(imported.spec), imported.labels)
    if problems := decode(text.encode(), f"{imported.name}.yaml").problems:
        raise ManifestError(problems)
    return text


def _report(imported: Imported, shown: str) -> Iterator[str]:
    """The notes, the most urgent first."""
    for kind in Kind:
        notes = imported.noted(kind)
        if notes:
            yield f"{kind.value} ({len(notes)}):"
        yield from (f"  {shown}:{note.line}: {note.place}: {note.message}" for note in notes)


def _commands(imported: Imported, home: VMDir) -> Iterator[str]:
    """How to bring the disks."""
    if not imported.images:
        return
    yield "with the old VM off and the manifest in place, its disks are brought by"
    yield f"  mkdir -p {shlex.quote(str(home.path))}"
    for image in imported.images:
        target = home.disk if image.disk == ROOT_DISK else home.data_disk(image.disk)
        words = ("qemu-img", "convert", "-f", image.format, "-O", "qcow2", image.path, str(target))
        yield f"  {shlex.join(words)}"
    yield f"  reconciler start {imported.name}"
