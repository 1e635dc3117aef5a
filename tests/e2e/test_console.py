"""The console in a real browser: the screen of a real guest, its keyboard, and who is not let in.

One test has a Linux; the guest of the others is tests/e2e/tiny.py's, which says on its serial port what is typed.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from reconciler import lock
from reconciler.console.tokens import UNUSED_S, digest_of
from reconciler.layout import ConsoleDir
from tests.e2e import tiny
from tests.e2e.browser import ConsolePage, chromium
from tests.e2e.site import Agent, Site, free_port, wait_for
from tests.e2e.test_host_shutdown import shut_down

# A browser, a guest and their neighbours on two cores. In one worker, so that there is one browser.
pytestmark = [pytest.mark.timeout(240), pytest.mark.xdist_group("browser")]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


class Desk:
    """An agent, a VM called web that runs, and a web port."""

    def __init__(self, site: Site, browser: Browser, iso: str) -> None:
        self.site = site
        self.browser = browser
        self.web_port = free_port()
        self.agent = site.agent()
        site.write("web", isoPath=iso, shutdown={"timeoutSeconds": 5})
        self.agent.wait_status("web", "running")

    def up(self) -> Desk:
        """Wait for the tiny guest."""
        tiny.wait_up(self.site, "web")
        return self

    def link(self, name: str = "web") -> dict[str, Any]:
        """What the API answers."""
        status, answer = self.agent.post(f"/api/novnc/{name}", {"webPort": self.web_port})
        assert status == 200, answer
        return dict(answer)

    def open(self, url: str | None = None, **context: Any) -> ConsolePage:
        """A tab of its own on a link."""
        page = self.browser.new_context(viewport={"width": 1000, "height": 700}, **context).new_page()
        return ConsolePage(page, url or self.link()["url"])

    def gateway(self) -> lock.Holder | None:
        """The process of the service."""
        return lock.holder(ConsoleDir(self.site.run / "consoles").lock(self.web_port))

    def screenshot(self) -> bytes:
        """What QEMU itself says that the screen shows."""
        with urllib.request.urlopen(f"{self.agent.url}/api/vms/web/screenshot", timeout=30) as answer:  # noqa: S310
            return bytes(answer.read())

    def proves_open(self, console: ConsolePage, word: str) -> None:
        """Keys typed in the page arrive in the guest."""
        console.page.click("#screen canvas")
        self.arrives(word, lambda: console.press(word))

    def arrives(self, words: str, typed: Callable[[], None]) -> None:
        """What is typed makes the guest say these words. A PS/2 keyboard's queue holds 16 bytes, and a guest that gets
        no processor for a moment loses keys, here as anywhere: whoever sees that types it again.
        """
        for wait_s in (10, 10, 20, 60):
            typed()
            with suppress(AssertionError):
                return self.site.wait_serial("web", words, wait_s)
        raise AssertionError(f"the guest never said {words!r}: {self.site.serial('web')[-500:]}")


@pytest.fixture
def tabs(browser: Browser) -> Iterator[Browser]:
    """The browser, whose tabs are closed with the test."""
    yield browser
    for context in browser.contexts:
        context.close()


@pytest.fixture
def desk(site: Site, tabs: Browser) -> Desk:
    return Desk(site, tabs, tiny.iso(site))


def test_the_url_shows_the_guests_screen_and_keys_arrive_in_the_guest(site: Site, tabs: Browser) -> None:
    desk = Desk(site, tabs, site.iso("demo"))
    site.wait_serial("web", "GUEST-READY")
    link = desk.link()
    assert re.fullmatch(
        rf"http://127\.0\.0\.1:{desk.web_port}/vnc\.html\?host=127\.0\.0\.1&port={desk.web_port}"
        r"&path=websockify/\?token=[A-Za-z0-9_-]{43}",
        link["url"],
    )
    assert (link["webPort"], link["vncPort"]) == (desk.web_port, desk.agent.vm("web")["vncPort"])
    assert (found := desk.gateway())
    assert link["pid"] == found.pid
    console = desk.open(link["url"]).wait_open()
    wait_for("the screen is there", lambda: console.lit() > 2000)
    wait_for("it is what QEMU shows", lambda: console.difference(desk.screenshot()) < 0.002)
    assert console.page.title().startswith("web")
    console.page.click("#screen canvas")
    desk.arrives("HeLLo-42", lambda: console.press("\necho HeLLo-$((6*7)) > /dev/ttyS0\n"))
    wait_for("the echo is on the screen", lambda: console.difference(desk.screenshot()) < 0.002)
    assert console.errors == []


def test_the_tools_work(desk: Desk) -> None:
    console = desk.up().open().wait_open()
    page = console.page
    # Text as keystrokes.
    page.click("#clipboard")
    page.fill("#text", "Typed_{By}|'\"Page\"' $((1+1))\n")
    desk.arrives("Typed_{By}|'\"Page\"' $((1+1))\n", lambda: page.click("#type"))
    wait_for("what no key has is said", lambda: page.inner_text("#hint") == "sent")
    page.fill("#text", "ü")
    page.click("#type")
    wait_for("what no key has is named", lambda: "ü" in page.inner_text("#hint"))
    page.click("#send")
    page.click("#clipboard")
    assert page.is_hidden("#drawer")
    # Scaling.
    fitted = console.box()
    page.click("#fit")
    wait_for("it is 1:1", lambda: console.box()["width"] == 720)
    assert fitted["width"] > 900
    # Full screen.
    page.click("#full")
    wait_for("full screen", lambda: page.evaluate("document.fullscreenElement?.id") == "stage")
    page.evaluate("document.exitFullscreen()")
    # The guest has the keyboard, until the chord takes it back.
    page.click("#screen canvas")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.tagName") == "CANVAS"
    page.keyboard.press("Control+Shift+F6")
    assert page.evaluate("document.activeElement.id") == "clipboard"
    # Reconnect, by the button.
    page.click("#reconnect")
    console.wait_open()
    assert console.errors == []


def test_ctrl_alt_del_reboots_the_guest(desk: Desk) -> None:
    console = desk.up().open().wait_open()
    with socket.socket(socket.AF_UNIX) as qmp:
        qmp.settimeout(60)
        qmp.connect(str(desk.site.run / "by-name" / "web" / "human.sock"))
        stream = qmp.makefile("rw")
        stream.write('{"execute": "qmp_capabilities"}\n')
        stream.flush()
        console.page.click("#cad")
        while json.loads(stream.readline()).get("event") != "RESET":
            pass
    desk.site.wait_serial("web", "U", times=2)
    assert console.wait_open().errors == []


def test_the_page_speaks_the_browsers_language(desk: Desk) -> None:
    chinese = desk.open(locale="zh-CN").wait_open()
    assert chinese.status == "已连接"
    assert chinese.page.inner_text("#full") == "全屏"
    assert desk.open(locale="de-DE").wait_open().status == "connected"


def test_tokens_that_are_not_good_open_nothing(desk: Desk) -> None:
    site, agent = desk.site, desk.agent
    site.write("other", shutdown={"timeoutSeconds": 1})
    agent.wait_status("other", "running")
    good, foreign = desk.link(), desk.link("other")
    expired, traversing = desk.link(), good["url"].replace(good["token"], "../../by-name/web/qmp.sock")
    file = ConsoleDir(site.run / "consoles").token(digest_of(expired["token"]))
    entry = json.loads(file.read_text())
    file.write_text(json.dumps(entry | {"grantedS": entry["grantedS"] - UNUSED_S}))
    desk.open(expired["url"]).wait_dead()
    desk.open(traversing).wait_dead()
    # The other VM's opens the other VM's console, whatever the page is called by, and dies with that VM.
    stranger = desk.open(foreign["url"]).wait_open()
    assert stranger.page.title().startswith("other")
    assert agent.post("/api/vms/other/stop")[0] == 200
    stranger.wait_dead()
    # Used, revoked, used again.
    console = desk.open(good["url"]).wait_open()
    assert agent.post("/api/vms/web/stop", {"force": True})[0] == 200
    console.wait_dead()
    assert agent.post("/api/vms/web/start")[0] == 200
    desk.open(good["url"]).wait_dead()
    desk.open().wait_open()


def test_the_agents_end_breaks_no_console_and_the_next_takes_the_service_over(desk: Desk) -> None:
    console = desk.up().open().wait_open()
    before = desk.gateway()
    assert desk.agent.stop() == 0
    desk.proves_open(console, "without")
    desk.agent = desk.site.agent()
    desk.agent.wait_status("web", "running")
    desk.agent.kill()
    desk.proves_open(console, "killed")
    desk.agent = desk.site.agent()
    desk.agent.wait_status("web", "running")
    desk.proves_open(console, "heir")
    assert desk.gateway() == before
    # What the next agent stops is cut off, though an earlier one gave the link.
    assert desk.agent.post("/api/vms/web/stop", {"force": True})[0] == 200
    console.wait_dead()


def test_a_restart_of_the_vm_keeps_the_link_and_the_page_comes_back_by_itself(desk: Desk) -> None:
    console = desk.up().open().wait_open()
    pid = desk.site.pid("web")
    os.kill(pid, signal.SIGKILL)
    wait_for("it runs again", lambda: desk.site.pids("web") not in ([], [pid]))
    desk.site.wait_serial("web", "U", times=2)
    console.wait_open()
    desk.proves_open(console, "again")


def test_a_service_that_was_killed_comes_back_under_an_open_page(desk: Desk) -> None:
    console = desk.up().open().wait_open()
    before = desk.gateway()
    assert before
    os.kill(before.pid, signal.SIGKILL)
    wait_for("another is there", lambda: desk.gateway() not in (None, before))
    console.wait_open()
    desk.proves_open(console, "revived")


def test_a_vm_that_is_deleted_takes_its_console_with_it(desk: Desk) -> None:
    console = desk.open().wait_open()
    assert desk.agent.request("DELETE", "/api/vms/web")[0] == 200
    console.wait_dead()


def test_after_host_shutdown_no_service_is_left(desk: Desk) -> None:
    console = desk.open().wait_open()
    service = desk.gateway()
    assert service
    done = shut_down(desk.site, 60)
    assert done.returncode == 0, done.stderr
    # One whose parent has gone may wait a moment for init; it has no command line any more.
    command = Path(f"/proc/{service.pid}/cmdline")
    wait_for("the service is gone", lambda: not command.exists() or b"gateway" not in command.read_bytes())
    assert not (desk.site.run / "consoles").exists()
    wait_for("the page notices", lambda: console.page.is_visible("#notice"))


def test_the_page_of_consoles_opens_one(desk: Desk, tmp_path: Path) -> None:
    desk.up()
    desk.site.write("calm", state="stopped")
    desk.agent.wait_status("calm", "stopped")
    status, answer = desk.agent.post("/api/novnc", {"webPort": desk.web_port})
    assert status == 200
    listing = desk.open(answer["url"])
    page = listing.page
    page.wait_for_selector("tr[data-name=calm]")
    assert page.is_disabled("tr[data-name=calm] button")
    with page.context.expect_page() as opened:
        page.click("tr[data-name=web] button")
    console = ConsolePage(opened.value).wait_open()
    desk.proves_open(console, "listed")
    assert listing.errors == console.errors == []


def test_the_page_of_consoles_asks_for_the_token_where_the_api_wants_one(
    site: Site, browser: Browser, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text("s3cret")
    agent = site.start(site.command(tokenFile=str(file)))
    wait_for("the API answers", lambda: _listens(agent))
    page = browser.new_context().new_page()
    page.goto(f"{agent.url}/consoles")
    page.fill("#token", "wrong")
    page.press("#token", "Enter")
    wait_for("it says no", lambda: "not accepted" in page.inner_text("#message"))
    page.fill("#token", "s3cret")
    page.press("#token", "Enter")
    page.wait_for_selector("#empty:not([hidden])")
    assert page.is_hidden("#ask")
    page.context.close()


def _listens(agent: Agent) -> bool:
    assert agent.process.poll() is None, agent.log.read_text()
    try:
        return agent.get("/readyz")[0] == 200
    except (OSError, ValueError):
        return False
