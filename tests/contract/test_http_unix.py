"""The API on a UNIX socket: whose file may be opened may do everything, and no token is asked for."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.api.server import Server, build
from reconciler.cli.main import main
from reconciler.model.errors import SettingsError
from reconciler.model.status import VMState
from reconciler.settings import Settings
from tests.contract.http_support import SETTINGS, Http, backend_of, serving
from tests.contract.memory_controller import MemoryController


@pytest.fixture
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("u") / "api.sock"


def built(settings: Settings) -> Server:
    return build(backend_of(MemoryController()), settings)


@pytest.fixture
def guarded(path: Path) -> Iterator[Http]:
    """Both at once, with a token."""
    token = path.with_name("token")
    token.write_text("s3cret")
    controller = MemoryController()
    controller.has("web", VMState.RUNNING)
    with serving(controller, listen=f"127.0.0.1:0,unix:{path}", token_file=token) as http:
        yield http


def curl(path: Path, url: str, *more: str) -> tuple[int, dict[str, object]]:
    """What people type."""
    words = ["curl", "--silent", "--show-error", "--write-out", "\n%{http_code}", "--unix-socket", str(path)]
    done = subprocess.run([*words, *more, url], capture_output=True, text=True, check=True, timeout=30)
    body, _, status = done.stdout.rpartition("\n")
    return int(status), json.loads(body)


def ask(path: Path, *headers: str, method: str = "GET", target: str = "/api/vms") -> int:
    """The status of an answer, header by header."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(str(path))
        client.sendall(
            "\r\n".join((f"{method} {target} HTTP/1.1", *headers, "Connection: close", "", "")).encode()
        )
        return int(client.makefile("rb").readline().split()[1])


def test_it_is_its_owners_alone_and_goes_with_the_agent(path: Path) -> None:
    with serving(MemoryController(), listen=f"unix:{path}") as http:
        assert http.url == f"unix:{path}"
        assert path.stat().st_mode & 0o777 == 0o600
        assert ask(path, "Host: localhost") == 200
    assert not path.exists()


def test_no_token_is_asked_for_where_the_file_decides(guarded: Http, path: Path) -> None:
    assert guarded.ask("GET", "/api/vms").status == 401
    assert ask(path, "Host: localhost") == 200
    assert ask(path, "Host: localhost", method="POST", target="/api/vms/nope/start") == 404


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (("Host: localhost",), 200),
        (("Host: 127.0.0.1:3000",), 200),
        (("Host: [::1]",), 200),
        (("Host: evil.example",), 403),
        ((), 403),
        (("Host: localhost", "Origin: http://localhost:5173"), 200),
        (("Host: localhost", "Origin: http://evil.example"), 403),
        (("Host: localhost", "Origin: null"), 403),
    ],
)
@pytest.mark.usefixtures("guarded")
def test_names_and_origins_are_judged_as_ever(path: Path, headers: tuple[str, ...], status: int) -> None:
    assert ask(path, *headers) == status


def test_tcp_cannot_pretend_to_be_a_file(guarded: Http) -> None:
    for name in ("reconciler.by_unix_socket", "Reconciler-By-Unix-Socket", "HTTP-RECONCILER.BY_UNIX_SOCKET"):
        assert guarded.ask("GET", "/api/vms", headers={name: "1"}).status in {400, 401}


@pytest.mark.usefixtures("guarded")
def test_curl_talks_through_it(path: Path) -> None:
    status, body = curl(path, "http://localhost/api/vms")
    assert (status, body["success"]) == (200, True)
    assert curl(path, "http://localhost/api/vms/nope/start", "--request", "POST")[0] == 404


@pytest.mark.usefixtures("guarded")
def test_the_command_line_talks_through_it(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["get", "-o", "name", "--server", f"unix:{path}"])
    assert (ended.value.code, capsys.readouterr().out) == (0, "web\n")


@pytest.mark.usefixtures("guarded")
def test_the_command_line_takes_it_unasked_where_the_agent_wrote_it_down(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = {"url": "http://127.0.0.1:1", "addresses": ["http://127.0.0.1:1", f"unix:{path}"], "pid": 1}
    (tmp_path / "agent.json").write_text(json.dumps(said))
    with pytest.raises(SystemExit) as ended:
        main(["get", "-o", "name", "--run-dir", str(tmp_path)])
    assert (ended.value.code, capsys.readouterr().out) == (0, "web\n")


def test_the_command_line_says_that_nobody_is_there(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["get", "--server", f"unix:{path}"])
    assert ended.value.code == 1
    assert f"no agent answers at unix:{path}" in capsys.readouterr().err


def test_one_that_a_dead_agent_left_is_replaced(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with serving(MemoryController(), listen=f"unix:{path}"):
        assert ask(path, "Host: localhost") == 200


def test_one_that_somebody_answers_on_is_not(path: Path) -> None:
    with serving(MemoryController(), listen=f"unix:{path}"):
        with pytest.raises(SettingsError, match="another agent or another program listens there"):
            built(replace(SETTINGS, listen=f"127.0.0.1:0,unix:{path}"))
        assert ask(path, "Host: localhost") == 200


def test_a_file_that_is_no_socket_is_not_touched(path: Path) -> None:
    path.write_text("precious")
    with pytest.raises(SettingsError, match="is no socket"):
        built(replace(SETTINGS, listen=f"unix:{path}"))
    assert path.read_text() == "precious"


def test_a_socket_that_another_has_put_there_since_is_not_removed(path: Path) -> None:
    with serving(MemoryController(), listen=f"unix:{path}"), socket.socket(socket.AF_UNIX) as other:
        path.unlink()
        other.bind(str(path))
    assert path.exists()


def test_a_directory_that_is_not_there_is_said_kindly(path: Path) -> None:
    with pytest.raises(SettingsError, match=r"No such file or directory.*in a directory that is there"):
        built(replace(SETTINGS, listen=f"unix:{path.parent}/no/api.sock"))


def test_where_one_of_several_cannot_be_had_none_is_left_open(path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match="is taken"):
            built(replace(SETTINGS, listen=f"unix:{path},127.0.0.1:{port}"))
    assert not path.exists()
    path.mkdir()
    with pytest.raises(SettingsError, match="is no socket"):
        built(replace(SETTINGS, listen=f"127.0.0.1:{port},unix:{path}"))
    with socket.create_server(("127.0.0.1", port)):
        assert os.path.isdir(path)


def test_the_page_of_consoles_is_named_where_browsers_reach_it(guarded: Http, path: Path) -> None:
    """Through a socket that is a file none does; `Host` says nothing of where."""
    status, answer = curl(path, "http://localhost/api/novnc", "--request", "POST")
    assert (status, answer["url"]) == (200, f"{guarded.url}/consoles?webPort=6080")


def test_without_any_other_address_it_is_the_services_own_page(path: Path) -> None:
    with serving(MemoryController(), listen=f"unix:{path}"):
        status, answer = curl(path, "http://localhost/api/novnc", "--request", "POST")
    assert (status, answer["url"]) == (200, "http://localhost:6080/vnc.html")
