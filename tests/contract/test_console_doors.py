"""What a real noVNC service shows and refuses to whoever has no token: its files, under its own names, to no guest."""

from __future__ import annotations

import http.client
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from reconciler.console.tokens import digest_of
from tests.contract.console_support import House, open_house


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    """One for all: these tests only look."""
    with open_house() as house:
        yield house


@pytest.mark.parametrize(
    "token",
    ["", "vm1", "web", "../lock", "..%2F..%2Fqmp.sock", "a" * 43, "%00" * 43, "a" * 60_000, "unix_socket:/x"],
)
def test_anything_else_opens_nothing(house: House, token: str) -> None:
    house.consoles.grant("web")
    with closing(house.open(token)) as visitor:
        assert visitor.status in {403, 414}


def test_the_digest_on_disk_opens_nothing(house: House) -> None:
    with closing(house.open(digest_of(house.consoles.grant("web")))) as visitor:
        assert visitor.status == 403


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/vnc.html?host=localhost&port=6080&path=websockify/?token=x", "text/html; charset=utf-8"),
        ("/", "text/html; charset=utf-8"),
        ("/vnc.js", "text/javascript; charset=utf-8"),
        ("/page.css", "text/css; charset=utf-8"),
        ("/novnc/core/rfb.js", "text/javascript; charset=utf-8"),
        ("/novnc/vendor/pako/lib/zlib/inflate.js", "text/javascript; charset=utf-8"),
    ],
)
def test_the_pages_files_are_served_and_guarded(house: House, path: str, kind: str) -> None:
    status, headers, body = house.get(path)
    assert (status, headers["Content-Type"]) == (200, kind)
    assert len(body) > 100
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == ("no-store" if "token" in path else "no-cache")
    assert "ython" not in headers["Server"]


@pytest.mark.parametrize(
    "path",
    [
        "/novnc/core/",
        "/novnc/core",
        "/novnc",
        "/../console/tokens.py",
        "/novnc/core/../../../../console/tokens.py",
        "/..%2f..%2fconsole/tokens.py",
        "/%2e%2e/%2e%2e/etc/passwd",
        "//etc/passwd",
        "/etc/passwd",
        "/vnc.html/",
        "/vnc.html%00",
        "/consoles.html",
        "/tokens",
    ],
)
def test_nothing_else_is_and_no_directory_is_listed(house: House, path: str) -> None:
    status, headers, body = house.get(path)
    assert status == 404
    assert b"Directory listing" not in body
    assert "default-src 'none'" in headers["Content-Security-Policy"]


@pytest.mark.parametrize("host", ["evil.example", "evil.example:6080", "", "localhost.evil.example"])
def test_under_a_name_that_is_not_ours_nothing_is_said(house: House, host: str) -> None:
    assert house.get("/vnc.html", Host=host)[0] == 403
    token = house.consoles.grant("web")
    with closing(house.open(token, Host=host, Origin="http://localhost")) as visitor:
        assert visitor.status == 403
    assert not house.layout.consoles.used(digest_of(token)).exists()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
def test_other_methods_are_not_known(house: House, method: str) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", house.web_port, timeout=30)) as connection:
        connection.request(method, "/vnc.html")
        assert connection.getresponse().status == 501


def test_a_guest_is_refused_at_the_door(house: House, tmp_path: Path) -> None:
    program = tmp_path / "qemu-system-guest"
    busybox = shutil.which("busybox")
    assert busybox
    shutil.copyfile(busybox, program)
    program.chmod(0o755)
    url = f"http://127.0.0.1:{house.web_port}/vnc.html"
    as_guest = subprocess.run(
        ["busybox", "wget", "-q", "-O", "-", url],
        executable=program,
        capture_output=True,
        timeout=60,
        check=False,
    )
    as_anybody = subprocess.run(
        ["busybox", "wget", "-q", "-O", "-", url], capture_output=True, timeout=60, check=False
    )
    assert as_guest.returncode != 0
    assert as_guest.stdout == b""
    assert b"vnc.js" in as_anybody.stdout
