"""Tokens: whose console each opens, how long, and that nothing else opens any."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from reconciler.console.tokens import PER_VM_MAX, UNUSED_S, USED_S, Tokens, digest_of
from reconciler.layout import ConsoleDir
from reconciler.model.errors import ConsoleError


@dataclass
class Clock:
    """A clock that is set."""

    boot_id: str = "boot"
    s: float = 1000.0

    def now_s(self) -> float:
        return self.s

    def utc(self) -> datetime:
        return datetime.now(UTC)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(tmp_path: Path, clock: Clock) -> Tokens:
    return Tokens(ConsoleDir(tmp_path / "consoles"), clock)


def name_of(tokens: Tokens, text: str) -> str | None:
    found = tokens.find(text)
    return found.name if found else None


def use(tokens: Tokens, text: str) -> None:
    found = tokens.find(text)
    assert found
    tokens.mark_used(found)


def test_a_token_opens_the_console_of_its_vm_and_is_new_each_time(tokens: Tokens) -> None:
    web, other, again = tokens.grant("web"), tokens.grant("other"), tokens.grant("web")
    assert len({web, other, again}) == 3
    assert [name_of(tokens, text) for text in (web, other, again)] == ["web", "other", "web"]
    assert len(web) == 43


def test_unused_it_dies_after_five_minutes(tokens: Tokens, clock: Clock) -> None:
    text = tokens.grant("web")
    clock.s += UNUSED_S - 0.1
    assert name_of(tokens, text) == "web"
    clock.s += 0.2
    assert tokens.find(text) is None


def test_used_it_lives_twelve_hours_from_the_first_use(tokens: Tokens, clock: Clock) -> None:
    text = tokens.grant("web")
    clock.s += 200
    use(tokens, text)
    clock.s += USED_S - 10
    use(tokens, text)
    assert name_of(tokens, text) == "web"
    clock.s += 10
    assert tokens.find(text) is None


def test_to_look_at_one_is_no_use_of_it(tokens: Tokens, clock: Clock) -> None:
    text = tokens.grant("web")
    clock.s += UNUSED_S - 1
    assert tokens.find(text)
    clock.s += 1
    assert tokens.find(text) is None


def test_revoking_ends_all_of_a_vm_and_of_no_other(tokens: Tokens) -> None:
    mine, used, other = tokens.grant("web"), tokens.grant("web"), tokens.grant("other")
    use(tokens, used)
    tokens.revoke("web")
    assert tokens.find(mine) is None
    assert tokens.find(used) is None
    assert name_of(tokens, other) == "other"
    assert tokens.names() == {"other"}


def test_a_use_that_is_marked_late_brings_no_revoked_token_back(tokens: Tokens) -> None:
    text = tokens.grant("web")
    found = tokens.find(text)
    assert found
    tokens.revoke("web")
    tokens.mark_used(found)
    assert tokens.find(text) is None
    assert tokens.names() == frozenset()


def test_the_next_agent_and_the_services_know_them(tokens: Tokens, tmp_path: Path, clock: Clock) -> None:
    text = tokens.grant("web")
    use(tokens, text)
    heir = Tokens(ConsoleDir(tmp_path / "consoles"), clock)
    clock.s += UNUSED_S * 2
    assert name_of(heir, text) == "web"
    assert heir.names() == {"web"}


def test_none_outlives_the_boot(tokens: Tokens, clock: Clock) -> None:
    text = tokens.grant("web")
    clock.boot_id = "another"
    assert tokens.find(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "vm1",
        "../tokens/" + "a" * 32,
        "a" * 42 + "/",
        "a" * 42 + "\0",
        "a" * 43 + "\n",
        "a" * 44,
        "ü" * 43,
        pytest.param("a" * 10_000_000, id="ten million"),
        "." * 43,
    ],
)
def test_what_has_not_the_form_of_a_token_opens_nothing(tokens: Tokens, text: str) -> None:
    tokens.grant("web")
    assert tokens.find(text) is None


def test_the_name_of_its_file_opens_nothing(tokens: Tokens, tmp_path: Path) -> None:
    text = tokens.grant("web")
    (file,) = (tmp_path / "consoles" / "tokens").iterdir()
    assert file.name == digest_of(text)
    assert tokens.find(file.name) is None
    assert text not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_sweeping_leaves_no_files_of_dead_ones(tokens: Tokens, tmp_path: Path, clock: Clock) -> None:
    use(tokens, tokens.grant("web"))
    tokens.grant("web")
    clock.s += USED_S
    live = tokens.grant("other")
    assert [file.name for file in (tmp_path / "consoles" / "tokens").iterdir()] == [digest_of(live)]


def test_a_client_in_a_loop_does_not_fill_the_directory(tokens: Tokens, tmp_path: Path, clock: Clock) -> None:
    other = tokens.grant("other")
    for _ in range(PER_VM_MAX + 20):
        clock.s += 0.01
        tokens.grant("web")
    clock.s += 0.01
    last = tokens.grant("web")
    assert len(list((tmp_path / "consoles" / "tokens").iterdir())) <= PER_VM_MAX + 1
    assert name_of(tokens, last) == "web"
    assert name_of(tokens, other) == "other"


def test_a_torn_or_foreign_file_is_no_token(tokens: Tokens, tmp_path: Path) -> None:
    text = tokens.grant("web")
    file = tmp_path / "consoles" / "tokens" / digest_of(text)
    for content in ('{"name": "we', "[]", '{"name": "web"}', "null"):
        file.write_text(content)
        assert tokens.find(text) is None
    assert tokens.names() == frozenset()


def test_where_it_cannot_be_kept_none_is_given(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "consoles").write_text("in the way")
    with pytest.raises(ConsoleError, match="consoles"):
        Tokens(ConsoleDir(tmp_path / "consoles"), clock).grant("web")
