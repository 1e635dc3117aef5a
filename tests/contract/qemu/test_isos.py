"""ISOs on a real file system: what may be opened, and all that may not."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.model.errors import PathError
from reconciler.model.observed import Fault, Medium
from reconciler.qemu.isos import look_at, open_medium
from reconciler.qemu.media import node_name


class Site:
    """An ISO directory, an allowed root beside it, and a secret outside of both."""

    def __init__(self, base: Path) -> None:
        self.iso_dir, self.root, self.outside = base / "iso", base / "srv", base / "secret.iso"
        self.iso_dir.mkdir()
        self.root.mkdir()
        for path in (self.iso_dir / "a.iso", self.root / "b.iso", self.outside):
            path.write_text(path.name)

    def open(self, text: str) -> str:
        """The content of what is opened."""
        opened = open_medium(text, self.iso_dir, (self.root,))
        try:
            assert opened.node_name == node_name(opened.real_path)
            return os.read(opened.fd, 100).decode()
        finally:
            os.close(opened.fd)

    def reason(self, text: str) -> str:
        """Why it is refused; nothing stays open."""
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(PathError) as caught:
            self.open(text)
        assert len(os.listdir("/proc/self/fd")) == before
        return caught.value.reason


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_a_relative_path_starts_in_the_iso_directory(site: Site) -> None:
    assert site.open("a.iso") == "a.iso"
    (site.iso_dir / "sub").mkdir()
    assert site.open("sub/../a.iso") == "a.iso"


def test_an_absolute_path_may_lie_below_any_allowed_directory(site: Site) -> None:
    assert site.open(str(site.root / "b.iso")) == "b.iso"
    assert site.open(str(site.iso_dir / "a.iso")) == "a.iso"


def test_a_link_is_judged_by_where_it_leads(site: Site) -> None:
    (site.iso_dir / "good.iso").symlink_to(site.root / "b.iso")
    (site.iso_dir / "bad.iso").symlink_to(site.outside)
    (site.iso_dir / "dir").symlink_to(site.outside.parent)
    assert site.open("good.iso") == "b.iso"
    assert site.reason("bad.iso") == "IsoNotAllowed"
    assert site.reason("dir/secret.iso") == "IsoNotAllowed"


def test_an_allowed_directory_may_itself_be_a_link(site: Site, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(site.root)
    opened = open_medium(str(link / "b.iso"), site.iso_dir, (link,))
    os.close(opened.fd)
    assert opened.real_path == str(site.root / "b.iso")


@pytest.mark.parametrize(
    "text",
    [
        "../secret.iso",
        "sub/../../secret.iso",
        "{outside}",
        "/etc/hostname",
        "{root}/../secret.iso",
        "{root}x/c",
    ],
)
def test_outside_is_outside_however_it_is_written(site: Site, text: str) -> None:
    (site.iso_dir / "sub").mkdir()
    beside = Path(f"{site.root}x")
    beside.mkdir()
    (beside / "c").touch()
    assert site.reason(text.format(outside=site.outside, root=site.root)) == "IsoNotAllowed"


@pytest.mark.parametrize(
    "text", ["/dev/null", "/dev/zero", "/proc/self/environ", "/proc/kmsg", "/sys/kernel/uevent_seqnum"]
)
def test_devices_and_the_kernels_files_are_refused_even_where_all_is_allowed(site: Site, text: str) -> None:
    with pytest.raises(PathError) as caught:
        open_medium(text, site.iso_dir, (Path("/"),))
    assert caught.value.reason == "IsoNotAllowed"


@pytest.mark.parametrize(
    "text",
    [
        *(
            "json:{{}}",
            "fat:rw:/etc",
            "nbd:localhost:1",
            "a.iso,readonly=off",
            " ",
            "new\nline",
            "/dev/fdset/1",
        ),
        *("nul\0byte", "x" * 5000, "a.iso/b", "~/a.iso", "$HOME", "-", "lone\ud800surrogate"),
    ],
)
def test_hostile_texts_are_names_of_files_that_are_not_there(site: Site, text: str) -> None:
    assert site.reason(text) == "IsoNotFound"


@pytest.mark.parametrize("text", ["json:{}", "fat:rw:x", "a,b.iso", " x ", "new\nline", "-o", "ü.iso", "~"])
def test_a_file_with_such_a_name_is_a_file(site: Site, text: str) -> None:
    (site.iso_dir / text).write_text("it")
    assert site.open(text) == "it"


@pytest.mark.parametrize("kind", ["directory", "fifo", "socket", "the directory itself"])
def test_what_is_no_regular_file_is_refused_at_once(site: Site, kind: str, short_dir: Path) -> None:
    path = site.iso_dir / "x"
    match kind:
        case "directory":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case "socket":
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(str(short_dir / "x"))
            (short_dir / "x").rename(path)
        case _:
            assert site.reason("") == "IsoNotAFile"
            return
    assert site.reason("x") == "IsoNotAFile"


@pytest.fixture
def device(site: Site) -> Iterator[Path]:
    """A device node below an allowed directory; only root makes one."""
    path = site.iso_dir / "device"
    try:
        os.mknod(path, 0o600 | 0o020000, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("device nodes cannot be made here")
    yield path
    path.unlink()


def test_a_device_node_below_an_allowed_directory_is_refused(site: Site, device: Path) -> None:
    assert site.reason(device.name) == "IsoNotAFile"


def test_a_link_that_leads_nowhere_or_to_itself_is_not_found(site: Site) -> None:
    (site.iso_dir / "gone").symlink_to("nowhere")
    (site.iso_dir / "loop").symlink_to("loop")
    assert [site.reason("gone"), site.reason("loop")] == ["IsoNotFound", "IsoNotFound"]


def test_the_descriptor_is_read_only_and_not_inherited(site: Site) -> None:
    opened = open_medium("a.iso", site.iso_dir, ())
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.write(opened.fd, b"x")
    assert not os.get_inheritable(opened.fd)
    os.close(opened.fd)


def test_messages_name_the_field_the_text_and_what_to_do(site: Site) -> None:
    with pytest.raises(
        PathError, match=r"spec\.isoPath: 'b\.iso': No such file or directory \(looked in .*iso\)"
    ):
        site.open("b.iso")
    with pytest.raises(
        PathError, match=r"spec\.isoPath: '/etc/hostname' is not below an allowed directory \(.*move"
    ):
        site.open("/etc/hostname")


def test_a_look_gives_the_medium_or_the_fault_and_leaves_nothing_open(site: Site) -> None:
    before = len(os.listdir("/proc/self/fd"))
    path = str(site.iso_dir / "a.iso")
    assert look_at("a.iso", site.iso_dir, ()) == Medium(path, node_name(path))
    fault = look_at("no.iso", site.iso_dir, ())
    assert isinstance(fault, Fault)
    assert fault.reason == "IsoNotFound"
    assert len(os.listdir("/proc/self/fd")) == before
