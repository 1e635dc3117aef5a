"""The decisions about names, origins and tokens that the matrix over HTTP does not reach."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.api.access import (
    Access,
    Role,
    host_allowed,
    origin_allowed,
    role_of,
)
from reconciler.api.listen import LOOPBACK_NAMES, Listen, Listening, UnixListen
from reconciler.authority import Authority, parse_authority
from reconciler.model.errors import SettingsError

ACCESS = Access(LOOPBACK_NAMES, frozenset(), None, lambda: {80, 8080})


@pytest.mark.parametrize(
    ("text", "authority"),
    [
        ("localhost", Authority("localhost", None)),
        ("Localhost.:80", Authority("localhost", 80)),
        ("[::1]:3000", Authority("::1", 3000)),
        ("a b", None),
        ("localhost\n", None),
        ("localhost:", None),
        ("localhost:999999", None),
    ],
)
def test_an_authority_is_a_host_and_perhaps_a_port(text: str, authority: Authority | None) -> None:
    assert parse_authority(text) == authority


def test_an_origin_without_a_port_has_the_port_of_its_scheme() -> None:
    assert not origin_allowed("http://localhost", "localhost:3000", ACCESS), "a VM forwards port 80"
    assert origin_allowed("https://localhost", "localhost:3000", ACCESS)


def test_a_host_that_only_begins_like_ours_is_not_ours() -> None:
    assert host_allowed("127.0.0.1", ACCESS)
    assert not host_allowed("127.0.0.2", ACCESS)


@pytest.mark.parametrize(
    ("header", "role"),
    [
        ("Bearer all", Role.ADMIN),
        ("bearer all ", Role.ADMIN),
        ("Bearer some", Role.READ),
        ("Bearer al", None),
        ("Bearer ", None),
        ("Basic all", None),
        ("Bearer \u00fc", None),
        ("", None),
        (None, None),
    ],
)
def test_the_token_says_the_role(header: str | None, role: Role | None) -> None:
    assert role_of(header, replace(ACCESS, token="all", read_token="some")) is role


def test_without_a_token_everybody_is_an_admin_and_without_a_second_one_nobody_a_reader() -> None:
    assert role_of(None, ACCESS) is Role.ADMIN
    assert role_of("Bearer some", replace(ACCESS, token="all")) is None


@pytest.mark.parametrize(
    ("text", "listen"),
    [("localhost:3000", Listen("localhost", 3000)), ("[::1]:0", Listen("::1", 0)), ("H:1", Listen("h", 1))],
)
def test_listen_is_host_and_port(text: str, listen: Listen) -> None:
    assert Listen.parse(text) == listen


@pytest.mark.parametrize("text", ["", "3000", ":3000", "localhost", "::1:3000", "localhost:65536", "a b:1"])
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(SettingsError, match="localhost:3000"):
        Listen.parse(text)


def test_only_the_loopback_is_loopback() -> None:
    assert Listen("localhost", 1).is_loopback
    assert Listen("127.8.8.8", 1).is_loopback
    assert not Listen("0.0.0.0", 1).is_loopback
    assert not Listen("localhost.example", 1).is_loopback


def test_on_every_address_the_own_addresses_are_names() -> None:
    assert "127.0.0.1" in Listen("0.0.0.0", 1).names()
    assert Listen("vm.lan", 1).names() == LOOPBACK_NAMES | {"vm.lan"}


def test_several_listens_are_parted_by_commas() -> None:
    listening = Listening.parse("localhost:3000, unix:/run/api.sock,[::1]:3001")
    assert listening.tcp == (Listen("localhost", 3000), Listen("::1", 3001))
    assert listening.unix == (UnixListen(Path("/run/api.sock")),)
    assert listening.beyond is None
    assert Listening.parse("unix:/a,vm.lan:1").beyond == Listen("vm.lan", 1)


def test_through_a_unix_socket_the_loopbacks_names_are_good() -> None:
    assert Listening.parse("unix:/a").names() == LOOPBACK_NAMES
    assert Listening.parse("unix:/a,vm.lan:1").names() == LOOPBACK_NAMES | {"vm.lan"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("unix:api.sock", "absolute path"),
        ("unix:", "absolute path"),
        ("unix:/" + "x" * 107, "has 108 bytes, .* may have 107"),
        ("localhost:3000,", "HOST:PORT or unix:/PATH"),
    ],
)
def test_a_listen_that_cannot_be_is_refused_kindly(text: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        Listening.parse(text)
