"""Who is let in, on raw sockets: Host × Origin × content type, preflights, the token."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from reconciler.model.errors import SettingsError
from reconciler.model.status import VMState
from reconciler.model.vm import PortForward, PowerState, VMSpec
from tests.contract.http_support import Http, Reply, serving
from tests.contract.memory_controller import MemoryController

GUEST_PORT = 8080

GOOD_HOSTS = ["localhost", "localhost:3000", "LOCALHOST:1", "127.0.0.1:3000", "[::1]:3000", "vm.lan:80"]
BAD_HOSTS = [
    None,
    "",
    "evil.example",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "10.0.2.2:3000",
    "localhost, evil.example",
    "localhost:3000:1",
    "user@localhost",
    "[::1",
]
GOOD_ORIGINS = [
    None,
    "http://localhost:5173",
    "http://127.0.0.1:8081",
    "https://[::1]:9443",
    "http://localhost",
    "https://panel.example",
]
BAD_ORIGINS = [
    "null",
    "",
    "http://evil.example",
    "http://localhost.evil.example",
    "http://panel.example",
    "https://panel.example:8443",
    "http://localhost@evil.example",
    "file://",
    "chrome-extension://abcdef",
    f"http://localhost:{GUEST_PORT}",
    f"http://127.0.0.1:{GUEST_PORT}",
    "http://localhost:5173, http://evil.example",
]
JSON_TYPES = ["application/json", "Application/JSON; charset=UTF-8", 'application/json;charset="utf-8"']
OTHER_TYPES = [
    None,
    "text/plain",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "application/json; charset=latin-1",
    "application/jsonp",
    "text/json",
]


@pytest.fixture(scope="module")
def http() -> Iterator[Http]:
    controller = MemoryController()
    controller.has("web", VMState.RUNNING, VMSpec(port_forwards=(PortForward(GUEST_PORT, 80),)))
    controller.has("off", VMState.STOPPED, VMSpec(state=PowerState.STOPPED))
    settings = {"allowed_hosts": ("VM.lan",), "allowed_origins": ("https://panel.example",)}
    with serving(controller, **settings) as client:
        yield client


def send(
    http: Http,
    host: str | None = "localhost",
    origin: str | None = None,
    *,
    method: str = "GET",
    path: str = "/api/vms",
    more: tuple[str, ...] = (),
    body: bytes | None = None,
) -> Reply:
    """One request, header by header."""
    lines = [f"{method} {path} HTTP/1.1", "Connection: close"]
    lines += [f"Host: {host}"] if host is not None else []
    lines += [f"Origin: {origin}"] if origin is not None else []
    lines += [f"Content-Length: {len(body)}"] if body is not None else []
    return http.raw("\r\n".join((*lines, *more, "", "")).encode() + (body or b""))


@pytest.mark.parametrize(("host", "origin"), list(product(GOOD_HOSTS, GOOD_ORIGINS)))
def test_names_and_origins_that_are_ours_are_let_in(http: Http, host: str, origin: str | None) -> None:
    reply = send(http, host, origin)
    assert reply.status == 200
    assert reply.headers.get("Access-Control-Allow-Origin") == origin
    assert reply.headers["Vary"] == "Origin"


@pytest.mark.parametrize("host", BAD_HOSTS)
@pytest.mark.parametrize("origin", [None, "http://localhost:5173", "http://evil.example"])
def test_a_name_that_is_not_ours_is_refused_whatever_the_origin(
    http: Http, host: str | None, origin: str | None
) -> None:
    reply = send(http, host, origin)
    assert (reply.status, reply.body["code"], reply.body["success"]) == (403, "FORBIDDEN", False)
    assert "Access-Control-Allow-Origin" not in reply.headers


@pytest.mark.parametrize("host", ["localhost:3000", "127.0.0.1:3000"])
@pytest.mark.parametrize("origin", BAD_ORIGINS)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_an_origin_that_is_not_trusted_is_refused_for_every_method(
    http: Http, host: str, origin: str, method: str
) -> None:
    more = ("Access-Control-Request-Method: POST",) if method == "OPTIONS" else ()
    reply = send(http, host, origin, method=method, path="/api/vms/off/start", more=more)
    assert (reply.status, reply.body["code"]) == (403, "FORBIDDEN")
    assert "Access-Control-Allow-Origin" not in reply.headers


def test_the_pages_own_origin_is_trusted_even_on_a_port_that_a_vm_forwards(http: Http) -> None:
    """Behind a tunnel: who is asked by this name and port is the agent, not the guest."""
    assert send(http, f"localhost:{GUEST_PORT}", f"http://localhost:{GUEST_PORT}").status == 200


@pytest.mark.parametrize("origin", ["http://localhost:5173", "https://panel.example"])
def test_a_preflight_from_a_trusted_origin_is_answered(http: Http, origin: str) -> None:
    more = ("Access-Control-Request-Method: POST", "Access-Control-Request-Headers: content-type")
    reply = send(http, origin=origin, method="OPTIONS", path="/api/vms/off/start", more=more)
    assert reply.status == 204
    assert reply.headers["Access-Control-Allow-Origin"] == origin
    assert "POST" in reply.headers["Access-Control-Allow-Methods"]
    assert "Content-Type" in reply.headers["Access-Control-Allow-Headers"]


def test_errors_for_a_trusted_origin_can_be_read_by_its_page(http: Http) -> None:
    reply = send(http, origin="http://localhost:5173", path="/api/vms/nope")
    assert reply.status == 404
    assert reply.headers["Access-Control-Allow-Origin"] == "http://localhost:5173"
    assert "X-Request-Id" in reply.headers["Access-Control-Expose-Headers"]


@pytest.mark.parametrize(("kind", "origin"), list(product(JSON_TYPES, [None, "http://localhost:5173"])))
def test_a_body_of_json_is_taken(http: Http, kind: str, origin: str | None) -> None:
    reply = send(
        http,
        origin=origin,
        method="POST",
        path="/api/vms/off/stop",
        more=(f"Content-Type: {kind}",),
        body=b"{}",
    )
    assert (reply.status, reply.body["code"]) == (400, "VM_ALREADY_STOPPED")


@pytest.mark.parametrize(("kind", "origin"), list(product(OTHER_TYPES, [None, "http://localhost:5173"])))
def test_a_body_of_anything_else_is_refused_as_a_browser_sends_it_unasked(
    http: Http, kind: str | None, origin: str | None
) -> None:
    more = (f"Content-Type: {kind}",) if kind else ()
    reply = send(http, origin=origin, method="POST", path="/api/vms/off/stop", more=more, body=b"{}")
    assert (reply.status, reply.body["code"]) == (415, "UNSUPPORTED_MEDIA_TYPE")


def test_two_host_headers_are_refused(http: Http) -> None:
    assert send(http, more=("Host: evil.example",)).status == 403


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Http]:
    file = tmp_path / "token"
    file.write_text("s3cret\n")
    with serving(MemoryController(), token_file=file) as client:
        yield client


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer wrong", "Basic s3cret", "s3cret", "Bearer s3cretx", "Bearer ü"]
)
def test_without_the_token_nothing_is_told(guarded: Http, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    for path in ("/api/vms", "/api/vms/x", "/api/nowhere"):
        reply = guarded.ask("GET", path, headers=headers)
        assert (reply.status, reply.body["code"]) == (401, "UNAUTHORIZED")
        assert reply.headers["WWW-Authenticate"] == "Bearer"


def test_with_the_token_everything_is(guarded: Http) -> None:
    for header in ("Bearer s3cret", "bearer s3cret"):
        assert guarded.ask("GET", "/api/vms", headers={"Authorization": header}).status == 200


def test_health_needs_no_token_and_tells_nothing(guarded: Http) -> None:
    assert guarded.ask("GET", "/healthz").body == {"success": True, "status": "alive"}
    assert guarded.ask("GET", "/readyz").body == {"success": True, "status": "ready"}


def test_a_preflight_needs_no_token_since_browsers_send_none(guarded: Http) -> None:
    headers = {"Origin": "http://localhost:5173", "Access-Control-Request-Method": "GET"}
    reply = guarded.ask("OPTIONS", "/api/vms", headers=headers)
    assert reply.status == 204
    assert "Authorization" in reply.headers["Access-Control-Allow-Headers"]


@pytest.fixture
def two_roles(tmp_path: Path) -> Iterator[Http]:
    for name in ("all", "some"):
        (tmp_path / name).write_text(f"{name}-token\n")
    controller = MemoryController()
    controller.has("off", VMState.STOPPED, VMSpec(state=PowerState.STOPPED))
    with serving(controller, token_file=tmp_path / "all", read_token_file=tmp_path / "some") as client:
        yield client


WRITES = [
    ("POST", "/api/vms"),
    ("POST", "/api/vms/off/start"),
    ("PUT", "/vms/off/config"),
    ("DELETE", "/api/vms/off"),
    ("POST", "/api/prune"),
    ("POST", "/api/nowhere"),
    ("OPTIONS", "/api/vms"),
]


@pytest.mark.parametrize("path", ["/api/vms", "/api/vms/off", "/api/vms/off/manifest", "/healthz"])
def test_the_role_read_reads(two_roles: Http, path: str) -> None:
    headers = {"Authorization": "Bearer some-token"}
    assert two_roles.ask("GET", path, headers=headers).status == 200
    assert two_roles.ask("GET", path, headers={"Authorization": "Bearer all-token"}).status == 200


@pytest.mark.parametrize(("method", "path"), WRITES)
@pytest.mark.parametrize("query", ["", "?dryRun=true"])
def test_the_role_read_writes_nothing_and_is_told_its_role(
    two_roles: Http, method: str, path: str, query: str
) -> None:
    headers = {"Authorization": "Bearer some-token", "X-Language": "en"}
    reply = two_roles.ask(method, path + query, headers=headers)
    assert (reply.status, reply.body["code"]) == (403, "FORBIDDEN")
    assert "role `read`" in reply.body["error"]
    assert "tokenFile" in reply.body["error"]
    admins = two_roles.ask(method, path + query, headers={"Authorization": "Bearer all-token"})
    assert admins.status not in {401, 403}


def test_a_reader_is_no_admin_by_any_other_spelling(two_roles: Http) -> None:
    for given in ("Bearer some-token, all-token", "Bearer some-tokenall-token", "Basic all-token"):
        assert two_roles.ask("POST", "/api/prune", headers={"Authorization": given}).status == 401


@pytest.mark.parametrize(
    ("token", "reads", "said"),
    [
        (None, "r", "readTokenFile: without a tokenFile"),
        ("same", "same", "let the two differ"),
        ("t", "", "readTokenFile: .* is empty"),
        ("t", None, "readTokenFile: .* cannot be read"),
    ],
)
def test_a_second_token_that_protects_nothing_is_refused(
    tmp_path: Path, token: str | None, reads: str | None, said: str
) -> None:
    for name, text in (("all", token), ("some", reads)):
        if text is not None:
            (tmp_path / name).write_text(text)
    files = {"read_token_file": tmp_path / "some"} | ({"token_file": tmp_path / "all"} if token else {})
    with pytest.raises(SettingsError, match=said), serving(MemoryController(), **files):
        pass
