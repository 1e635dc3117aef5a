"""The server itself: where it listens, what it refuses to do, its limits, its end."""

from __future__ import annotations

import http.client
import logging
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from reconciler.api.server import build
from reconciler.model.errors import SettingsError
from tests.contract.http_support import SETTINGS, Http, backend_of, serving
from tests.contract.memory_controller import MemoryController


@pytest.fixture(scope="module")
def http_() -> Iterator[Http]:
    with serving(MemoryController()) as client:
        yield client


def has_ipv6_loopback() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def answers(address: str, port: int) -> bool:
    connection = http.client.HTTPConnection(address, port, timeout=30)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    finally:
        connection.close()


def test_an_ephemeral_port_is_chosen_and_told() -> None:
    with serving(MemoryController(), listen="127.0.0.1:0") as client:
        assert client.url == f"http://127.0.0.1:{client.port}"
        assert client.port > 0
        assert answers("127.0.0.1", client.port)


def test_localhost_is_both_loopbacks_on_one_port() -> None:
    with serving(MemoryController(), listen="localhost:0") as client:
        assert urlsplit(client.url).hostname == "localhost"
        assert answers("127.0.0.1", client.port)
        if has_ipv6_loopback():
            assert answers("::1", client.port)


@pytest.mark.skipif(not has_ipv6_loopback(), reason="this machine has no ::1")
def test_an_ipv6_loopback_can_be_named() -> None:
    with serving(MemoryController(), listen="[::1]:0") as client:
        assert client.url == f"http://[::1]:{client.port}"
        assert answers("::1", client.port)


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0", "192.0.2.1:3000", "vm.example:3000"])
def test_other_machines_are_let_in_with_a_token_only(listen: str) -> None:
    with pytest.raises(SettingsError, match="--token-file"):
        build(backend_of(MemoryController()), replace(SETTINGS, listen=listen))


def test_every_address_is_served_where_there_is_a_token(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("t")
    with serving(MemoryController(), listen="0.0.0.0:0", token_file=file) as client:
        assert answers("127.0.0.1", client.port)
        headers = {"Authorization": "Bearer t", "Host": socket.gethostname()}
        assert client.ask("GET", "/api/vms", headers=headers).status == 200
        assert client.ask("GET", "/api/vms", headers=headers | {"Host": "evil.example"}).status == 403


@pytest.mark.parametrize(("text", "said"), [("", "is empty"), (None, "cannot be read")])
def test_a_token_file_without_a_token_is_no_protection(tmp_path: Path, text: str | None, said: str) -> None:
    file = tmp_path / "token"
    if text is not None:
        file.write_text(text)
    with pytest.raises(SettingsError, match=said):
        build(backend_of(MemoryController()), replace(SETTINGS, token_file=file))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_port_that_is_taken_is_an_error_that_names_port_and_setting(http_: Http, host: str) -> None:
    with pytest.raises(SettingsError, match=rf"listen: .*port {http_.port} is taken.*--listen"):
        build(backend_of(MemoryController()), replace(SETTINGS, listen=f"{host}:{http_.port}"))


def test_after_close_the_port_is_free_at_once() -> None:
    with serving(MemoryController()) as client:
        port = client.port
        assert answers("127.0.0.1", port)
    with serving(MemoryController(), listen=f"127.0.0.1:{port}") as client:
        assert answers("127.0.0.1", port)


def test_a_server_that_was_never_started_can_be_closed() -> None:
    build(backend_of(MemoryController()), SETTINGS).close()


@pytest.mark.parametrize("size", [64 * 1024 + 1, 10 * 1024 * 1024])
def test_a_body_above_64_kib_is_refused_in_the_documented_shape(http_: Http, size: int) -> None:
    head = f"POST /api/prune HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n"
    reply = http_.raw(head.encode())
    assert (reply.status, reply.body["code"], reply.body["success"]) == (413, "TOO_LARGE", False)


def test_a_body_of_64_kib_is_read(http_: Http) -> None:
    body = b'{"names":["a"]' + b" " * (64 * 1024 - 15) + b"}"
    assert len(body) == 64 * 1024
    assert http_.ask("POST", "/api/prune", body).status == 200


def test_a_chunked_body_is_read_as_any_other(http_: Http) -> None:
    head = b"POST /api/prune HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    body = b'{"names":["a"]}'
    chunks = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    assert http_.raw(head + chunks).status == 200


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /api/vms HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"x" * 20_000 + b"\r\n\r\n", 431),
        (b"GET /api/vms HTTP/1.1\r\nHost localhost\r\n\r\n", 400),
        (b"POST /api/prune HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n", 400),
        (b"POST /api/prune HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
    ],
)
def test_what_is_no_request_is_refused_in_the_documented_shape(
    http_: Http, request_: bytes, status: int
) -> None:
    reply = http_.raw(request_)
    assert reply.status == status
    assert reply.body["success"] is False
    assert reply.body["code"] == "INVALID_REQUEST_PARAMS"


def test_the_server_does_not_say_what_it_is_made_of(http_: Http) -> None:
    reply = http_.ask("GET", "/api/vms")
    assert reply.headers["Server"] is None
    assert reply.headers["Via"] is None


def test_queued_requests_do_not_flood_the_log(http_: Http) -> None:
    assert not logging.getLogger("waitress.queue").isEnabledFor(logging.WARNING)


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'"text"',
        b"null",
        b'{"names":["a"],"names":["b"]}',
        b'{"names":["a"],"x":{"k":1,"k":2}}',
        b'{"names":["a"],"x":NaN}',
        b'{"names":["a"],"x":-Infinity}',
        b'{"names":["a"],"x":1e999}',
        b'{"names":["a"],"x":"\\ud800"}',
        b'{"names":["a"],"x":"\xff"}',
        b'{"names":["a"],"x":' + b"[" * 16 + b"]" * 16 + b"}",
        b"[" * 30_000,
        b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        b'{"names":["a"],"x":' + b"9" * 10_000 + b"}",
        b"\xef\xbb\xbf{}",
    ],
)
def test_a_body_that_two_readers_could_read_differently_is_refused(http_: Http, body: bytes) -> None:
    reply = http_.ask("POST", "/api/prune", body)
    assert (reply.status, reply.body["code"]) == (400, "INVALID_REQUEST_PARAMS")
    assert reply.body["details"][0]["message"]
