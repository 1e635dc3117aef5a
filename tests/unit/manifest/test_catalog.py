"""What the rest of the agent is told of the manifests, and that it outlives the agent."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from reconciler.layout import Layout
from reconciler.manifest.catalog import Catalog
from reconciler.manifest.scan import Scanner
from reconciler.model.errors import StateError
from reconciler.model.vm import DesiredVM, Problem, Removal
from tests.unit.manifest.clocks import HandClock


class Host:
    """A manifests directory, a state directory, and one agent's catalog after another."""

    def __init__(self, path: Path) -> None:
        self.root = path / "manifests"
        self.root.mkdir()
        self.layout = Layout(path / "state", path / "run")
        self.clock = HandClock()

    def start(self, root: Path | None = None) -> Catalog:
        """A new agent's catalog."""
        where = root or self.root
        return Catalog(self.layout, where, Scanner(where, self.clock), self.clock)

    def write(self, name: str, file: str = "", **spec: object) -> Path:
        """Write a manifest."""
        lines = "".join(f"  {key}: {value}\n" for key, value in {"memory": 512, **spec}.items())
        path = self.root / (file or f"{name}.yaml")
        path.write_text(
            f"apiVersion: reconciler/v1\nkind: VirtualMachine\nmetadata:\n  name: {name}\nspec:\n{lines}"
        )
        return path

    def pass_time(self, catalog: Catalog, seconds: float = 10.0) -> frozenset[str]:
        """Look, let time pass, look again; the names of which something changed at last."""
        catalog.refresh()
        self.clock.advance(seconds)
        return catalog.refresh().changed


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A host without manifests."""
    return Host(tmp_path)


def memory(catalog: Catalog, name: str) -> int:
    wanted = catalog.wanted(name)
    assert isinstance(wanted, DesiredVM)
    return wanted.spec.memory_mib


def test_a_refresh_names_what_changed_and_nothing_else(host: Host) -> None:
    catalog = host.start()
    host.write("web")
    host.write("db")
    assert catalog.refresh().changed == {"web", "db"}
    assert catalog.refresh().changed == frozenset()
    host.write("web", memory=1024)
    assert catalog.refresh().changed == {"web"}
    assert memory(catalog, "web") == 1024
    assert catalog.names() == ("db", "web")
    assert catalog.wanted("stranger") is None


def test_a_removal_is_wanted_when_its_time_has_come_and_the_refresh_says_when_that_is(host: Host) -> None:
    catalog = host.start()
    host.write("db")
    host.write("web").parent.joinpath("web.yaml")
    catalog.refresh()
    (host.root / "web.yaml").unlink()
    assert catalog.refresh().look_again_s == 10
    host.clock.advance(10)
    assert catalog.refresh().changed == {"web"}
    assert isinstance(removal := catalog.wanted("web"), Removal)
    assert "name: web" in removal.last.text
    catalog.forget("web")
    assert catalog.wanted("web") is None
    assert catalog.refresh().changed == frozenset()


def test_a_broken_file_is_told_of_its_vms_and_the_last_good_version_stays(host: Host) -> None:
    catalog = host.start()
    host.write("web")
    host.write("db")
    catalog.refresh()
    path = host.write("web", memory="lots")
    assert catalog.refresh().changed == {"web"}
    assert memory(catalog, "web") == 512
    (problem,) = catalog.problems()
    assert (problem.file, problem.field) == (path.name, "spec.memory")
    assert catalog.problems_of("web") == (problem,)
    assert catalog.problems_of("db") == ()
    host.write("web", memory=768)
    assert catalog.refresh().changed == {"web"}
    assert catalog.problems() == ()


def test_a_name_in_two_files_is_a_problem_of_both(host: Host) -> None:
    catalog = host.start()
    host.write("web")
    catalog.refresh()
    host.write("web", "copy.yaml", memory=1024)
    catalog.refresh()
    assert memory(catalog, "web") == 512
    assert {p.file for p in catalog.problems_of("web")} == {"web.yaml", "copy.yaml"}


def test_the_only_manifest_removed_holds_the_vm_and_says_what_to_type(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    catalog = host.start()
    path = host.write("demo")
    catalog.refresh()
    path.unlink()
    assert catalog.refresh().changed == {"demo"}
    fault = catalog.held()["demo"]
    assert fault.reason == "PruneHeld"
    assert "its manifest demo.yaml is gone" in fault.message
    assert "run: reconciler prune --confirm" in fault.message
    assert f"demo: PruneHeld: {fault.message}" in caplog.text
    assert memory(catalog, "demo") == 512
    assert catalog.confirm_prune(["demo", "stranger"]) == ("demo",)
    assert isinstance(catalog.wanted("demo"), Removal)
    assert catalog.held() == {}


def test_every_reason_to_hold_a_vm_is_told_in_words(host: Host) -> None:
    catalog = host.start()
    for name in ("web", "db", "shop"):
        host.write(name)
    host.write("safe", protect="true")
    catalog.refresh()
    for name in ("web", "db", "safe"):
        (host.root / f"{name}.yaml").unlink()
    host.pass_time(catalog)
    messages = {name: fault.message for name, fault in catalog.held().items()}
    assert "2 of 4 VMs would go within ten minutes" in messages["web"]
    assert "says `protect: true`" in messages["safe"]
    assert "prune --confirm" not in messages["safe"]
    (host.root / "shop.yaml").rename(host.root / "new.yaml")
    (host.root / "new.yaml").write_text("[")
    catalog.refresh()
    assert "whether new.yaml describes it now cannot be known" in catalog.held()["shop"].message


def test_everything_is_known_again_after_a_restart(host: Host) -> None:
    host.write("web", vncPort=5901)
    held = host.write("db")
    first = host.start()
    first.refresh()
    (host.root / "web.yaml").write_text("[")
    held.unlink()
    first.refresh()
    second = host.start()
    assert second.names() == ("db", "web")
    assert second.wanted("web") == first.wanted("web")
    assert second.held() == first.held()
    second.refresh()
    assert memory(second, "web") == 512
    assert second.problems_of("web") == first.problems_of("web")


def test_a_confirmed_removal_outlives_the_agent(host: Host) -> None:
    path = host.write("demo")
    catalog = host.start()
    catalog.refresh()
    path.unlink()
    catalog.refresh()
    catalog.confirm_prune(["demo"])
    heir = host.start()
    assert isinstance(heir.wanted("demo"), Removal)
    heir.forget("demo")
    assert host.start().names() == ()


def test_an_agent_started_on_another_directory_keeps_the_vms_of_the_former(
    host: Host, tmp_path: Path
) -> None:
    host.write("web")
    host.start().refresh()
    other = tmp_path / "other"
    other.mkdir()
    host.write("db").rename(other / "db.yaml")
    catalog = host.start(other)
    host.pass_time(catalog, 1000)
    assert memory(catalog, "web") == 512
    assert f"was in {host.root}" in catalog.held()["web"].message


def test_the_records_are_written_only_when_they_change(host: Host) -> None:
    host.write("web")
    catalog = host.start()
    catalog.refresh()
    before = host.layout.catalog.stat()
    host.clock.advance(100)
    catalog.refresh()
    assert host.layout.catalog.stat().st_ino == before.st_ino
    host.write("web", memory=1024)
    catalog.refresh()
    assert host.layout.catalog.stat().st_ino != before.st_ino


def test_a_change_of_a_comment_is_kept_but_is_no_change_of_the_vm(host: Host) -> None:
    path = host.write("web")
    catalog = host.start()
    catalog.refresh()
    path.write_text(path.read_text() + "# the shop's front\n")
    assert catalog.refresh().changed == frozenset()
    wanted = host.start().wanted("web")
    assert isinstance(wanted, DesiredVM)
    assert "the shop's front" in wanted.text


@pytest.mark.parametrize("damage", ["", "{", '{"root": 1}', "\0" * 100])
def test_damaged_records_stop_the_agent_instead_of_losing_vms(host: Host, damage: str) -> None:
    host.write("web")
    host.start().refresh()
    host.layout.catalog.write_text(damage)
    with pytest.raises(StateError, match=r"catalog\.json: is damaged .* put a good copy in its place"):
        host.start()
    assert host.layout.catalog.read_text() == damage


def test_records_that_cannot_be_written_leave_everything_as_it_was(host: Host) -> None:
    host.write("web")
    catalog = host.start()
    catalog.refresh()
    host.write("db")
    host.layout.catalog.rename(host.layout.catalog.with_name("saved"))
    host.layout.catalog.mkdir()
    with pytest.raises(StateError, match="cannot be written"):
        catalog.refresh()
    assert catalog.names() == ("web",)
    host.layout.catalog.rmdir()
    assert catalog.refresh().changed == {"db"}


def test_the_vnc_ports_that_manifests_name_are_claimed_until_the_vm_goes(host: Host) -> None:
    host.write("web", vncPort=5901)
    host.write("db", vncPort=5901)
    host.write("shop", vncPort=5903)
    host.write("free")
    catalog = host.start()
    catalog.refresh()
    assert catalog.vnc_claims() == {5901: ("db", "web"), 5903: ("shop",)}
    (host.root / "shop.yaml").unlink()
    host.pass_time(catalog)
    assert catalog.vnc_claims() == {5901: ("db", "web")}


def test_a_problem_is_logged_when_it_begins_and_when_it_ends(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    catalog = host.start()
    host.write("web", memory="lots")
    catalog.refresh()
    catalog.refresh()
    assert caplog.text.count(": spec.memory: ") == 1
    caplog.clear()
    host.write("web")
    catalog.refresh()
    assert [r.getMessage() for r in caplog.records] == ["web.yaml: is valid again"]


def test_a_file_that_only_broke_otherwise_is_not_called_good_again(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    catalog = host.start()
    host.write("web", memory="lots")
    catalog.refresh()
    caplog.clear()
    host.write("web", memory="more")
    catalog.refresh()
    assert [r.levelname for r in caplog.records] == ["WARNING"]


def test_a_file_is_called_good_again_when_its_writer_is_done_and_not_before(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    catalog = host.start()
    path = host.write("web", memory="lots")
    catalog.refresh()
    caplog.clear()
    with path.open("a"):
        catalog.refresh()
        assert caplog.messages == []
    host.write("web")
    catalog.refresh()
    assert caplog.messages == ["web.yaml: is valid again"]


def test_a_broken_file_that_goes_away_is_not_called_good(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    catalog = host.start()
    host.write("db")
    (host.root / "notes.yaml").write_text("[")
    catalog.refresh()
    caplog.clear()
    (host.root / "notes.yaml").unlink()
    catalog.refresh()
    assert caplog.messages == ["notes.yaml: no longer a problem"]


def test_telling_of_many_problems_takes_work_in_proportion(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each was once compared with every other: 3.3 s for 3,000, at every edit of any file."""
    catalog = host.start()
    for number in range(60):
        path = host.write(f"vm{number}")
        path.write_text(path.read_text() + "".join(f"  field{n}: 1\n" for n in range(10)))
    catalog.refresh()
    count = len(catalog.problems())
    assert count >= 600
    compared = 0
    equal = Problem.__eq__

    def counting(one: Problem, other: object) -> bool:
        nonlocal compared
        compared += 1
        return equal(one, other)

    monkeypatch.setattr(Problem, "__eq__", counting)
    host.write("vm0")
    assert catalog.refresh().changed == {"vm0"}
    assert compared < 10 * count


# ---- deletions that somebody asked for ----------------------------------------------------------------


def test_a_deletion_is_on_disk_before_the_manifest_goes_and_is_gone_on_with(host: Host) -> None:
    path = host.write("web")
    catalog = host.start()
    catalog.refresh()
    web = catalog.wanted("web")
    assert isinstance(web, DesiredVM)
    catalog.entomb(web, discard=True)
    assert host.start().unfinished()["web"].generation == web.generation
    path.unlink()
    successor = host.start()
    successor.refresh()
    assert successor.wanted("web") == Removal(web, discard=True)
    assert not successor.unfinished()


def test_a_file_that_takes_the_name_while_it_is_deleted_is_seen_when_it_is_free(host: Host) -> None:
    path = host.write("web")
    catalog = host.start()
    catalog.refresh()
    web = catalog.wanted("web")
    assert isinstance(web, DesiredVM)
    catalog.entomb(web, discard=False)
    path.unlink()
    catalog.bury("web")
    host.write("web", memory=1024)
    catalog.refresh()
    assert catalog.wanted("web") == Removal(web)
    catalog.forget("web")
    assert catalog.wanted("web") is None
    assert catalog.refresh().changed == {"web"}
    assert memory(catalog, "web") == 1024


def test_a_deletion_that_cannot_be_kept_is_not_begun(host: Host) -> None:
    host.write("web")
    catalog = host.start()
    catalog.refresh()
    web = catalog.wanted("web")
    assert isinstance(web, DesiredVM)
    catalog_path = host.layout.catalog
    catalog_path.unlink()
    catalog_path.mkdir()  # a write cannot take its place
    with pytest.raises(StateError):
        catalog.entomb(web, discard=False)
    assert catalog.wanted("web") == web
    assert not catalog.unfinished()
