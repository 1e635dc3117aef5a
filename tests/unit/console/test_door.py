"""Whom a noVNC service talks to."""

from __future__ import annotations

import pytest

from reconciler.console.door import Door, token_in

DOOR = Door(
    frozenset({"localhost", "127.0.0.1", "::1", "vmhost"}), frozenset({"https://panel.example"}), 6080
)


@pytest.mark.parametrize(
    ("hosts", "known"),
    [
        (["localhost:6080"], True),
        (["LOCALHOST"], True),
        (["[::1]:6080"], True),
        (["vmhost:9999"], True),
        (["evil.example:6080"], False),
        (["localhost.evil.example"], False),
        (["localhost", "localhost"], False),
        ([], False),
        ([""], False),
        (["localhost:6080/x"], False),
    ],
)
def test_host_must_be_one_name_that_we_go_by(hosts: list[str], known: bool) -> None:
    assert DOOR.knows_host(hosts) is known


@pytest.mark.parametrize(
    ("origins", "trusted"),
    [
        ([], True),
        (["http://localhost:6080"], True),
        (["http://127.0.0.1:6080"], True),
        (["http://vmhost:6080"], True),
        (["https://panel.example"], True),
        (["HTTPS://PANEL.EXAMPLE"], True),
        (["http://panel.example"], False),
        (["http://localhost:8080"], False),
        (["http://localhost"], False),
        (["http://evil.example:6080"], False),
        (["null"], False),
        (["file://"], False),
        ([""], False),
        (["http://localhost:6080", "http://localhost:6080"], False),
    ],
)
def test_an_origin_must_be_the_services_own_or_a_configured_one(origins: list[str], trusted: bool) -> None:
    assert DOOR.trusts_origin(origins, "localhost:6080") is trusted


def test_behind_a_tunnel_its_own_origin_is_the_one_that_it_is_asked_under() -> None:
    assert DOOR.trusts_origin(["http://localhost:16080"], "localhost:16080")
    assert not DOOR.trusts_origin(["http://localhost:16081"], "localhost:16080")


@pytest.mark.parametrize(
    ("path", "token"),
    [
        ("/websockify/?token=abc", "abc"),
        ("/websockify?token=abc", "abc"),
        ("/websockify/?token=..%2F..%2Fqmp.sock", "../../qmp.sock"),
        ("/websockify/?token=a&token=b", None),
        ("/websockify/", None),
        ("/?token=abc", None),
        ("/websockify/../?token=abc", None),
        ("/vnc.html?path=websockify/?token=abc", None),
        ("/websockify/?" + "a=b&" * 100 + "token=abc", None),
        ("//[?token=abc", None),
    ],
)
def test_a_token_is_read_from_the_consoles_path_alone(path: str, token: str | None) -> None:
    assert token_in(path) == token


def test_the_policy_allows_nothing_unsafe_and_connections_to_itself_only() -> None:
    policy = DOOR.policy()
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert "*" not in policy.partition("connect-src")[2].partition(";")[0]
