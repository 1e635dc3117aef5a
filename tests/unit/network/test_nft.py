"""The scripts for our table: small steps where they do, the whole where nothing is known."""

from __future__ import annotations

from pathlib import Path

from reconciler.network.nft import VncRules, table_name

RULES = VncRules("reconciler_0a1b2c3d", 999)
NONE: frozenset[int] = frozenset()


def ports(*numbers: int) -> frozenset[int]:
    return frozenset(numbers)


def test_where_nothing_is_known_all_is_said_anew_in_one_transaction() -> None:
    lines = RULES.change(None, ports(5901, 5900)).splitlines()
    assert lines[:3] == [
        "table inet reconciler_0a1b2c3d",
        "delete table inet reconciler_0a1b2c3d",
        "table inet reconciler_0a1b2c3d {",
    ]
    assert "    elements = { 5900, 5901 }" in lines
    assert any(line.strip().startswith('meta skuid 999 oifname "lo" tcp dport @vnc_ports') for line in lines)


def test_where_nothing_is_known_and_nothing_needed_nothing_is_left() -> None:
    assert (
        RULES.change(None, NONE) == "table inet reconciler_0a1b2c3d\ndelete table inet reconciler_0a1b2c3d\n"
    )


def test_the_first_port_makes_the_table_and_the_last_takes_it_away() -> None:
    assert RULES.change(NONE, ports(5900)).startswith("table inet reconciler_0a1b2c3d {")
    assert RULES.change(ports(5900), NONE) == "delete table inet reconciler_0a1b2c3d\n"


def test_between_them_only_ports_come_and_go() -> None:
    assert RULES.change(ports(1, 2), ports(2, 3)) == (
        "add element inet reconciler_0a1b2c3d vnc_ports { 3 }\n"
        "delete element inet reconciler_0a1b2c3d vnc_ports { 1 }\n"
    )


def test_each_state_directory_has_a_table_of_its_own_however_it_is_reached(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to("a")
    assert table_name(tmp_path / "a") == table_name(tmp_path / "link") == table_name(tmp_path / "b/../a")
    assert table_name(tmp_path / "a") != table_name(tmp_path / "b")
