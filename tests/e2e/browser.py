"""Debian's Chromium, and what a person does at a console's page."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from tests.e2e.site import PATIENCE_S, wait_for

QUIET = [
    "--no-sandbox",  # tests run as root as well
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SHIFTED = set('~!@#$%^&*()_+{}|:"<>?')


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser, while the block runs."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=QUIET)
        try:
            yield browser
        finally:
            browser.close()


class ConsolePage:
    """A tab that shows a VM's console. `errors` are the page's own, and what its policy forbade."""

    def __init__(self, page: Page, url: str = "") -> None:
        self.page = page
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda message: self._note(message.text))
        if url:
            page.goto(url)

    def _note(self, text: str) -> None:
        if "Content Security Policy" in text:
            self.errors.append(text)

    @property
    def tone(self) -> str | None:
        """The colour of the light: good, busy, bad."""
        return self.page.get_attribute("#dot", "data-tone")

    @property
    def status(self) -> str:
        """The status text."""
        return self.page.inner_text("#status")

    def wait_open(self, timeout_s: float = PATIENCE_S) -> ConsolePage:
        """Wait until the console is there."""
        wait_for("the console is connected", lambda: self._seen("good"), timeout_s)
        return self

    def wait_dead(self, timeout_s: float = PATIENCE_S) -> ConsolePage:
        """Wait until the page says that its link opens nothing."""
        wait_for("the page says that its link is dead", lambda: self._seen("bad"), timeout_s)
        assert "opens nothing" in self.page.inner_text("#noticeText")
        return self

    def _seen(self, tone: str) -> bool:
        self.page.wait_for_timeout(20)  # playwright handles the page's events while it waits
        return self.tone == tone

    def press(self, text: str) -> None:
        """Type on the keyboard, as a person does: with Shift where a character needs it."""
        for character in text:
            key = "Enter" if character == "\n" else character
            shifted = character.isupper() or character in SHIFTED
            self.page.keyboard.press(f"Shift+{key}" if shifted else key, delay=8)

    def difference(self, png: bytes) -> float:
        """The share of pixels in which the canvas differs from a picture of the same size; 1.0 for another size."""
        share = self.page.evaluate(
            """async (png) => {
              const image = new Image();
              image.src = `data:image/png;base64,${png}`;
              await image.decode();
              const shown = document.querySelector("#screen canvas");
              if (shown.width !== image.width || shown.height !== image.height) return 1;
              const other = document.createElement("canvas");
              [other.width, other.height] = [image.width, image.height];
              const context = other.getContext("2d");
              context.drawImage(image, 0, 0);
              const read = (from) => from.getImageData(0, 0, other.width, other.height).data;
              const [a, b] = [read(shown.getContext("2d")), read(context)];
              let different = 0;
              for (let i = 0; i < a.length; i += 4)
                if (a[i] !== b[i] || a[i + 1] !== b[i + 1] || a[i + 2] !== b[i + 2]) different++;
              return different / (a.length / 4);
            }""",
            base64.b64encode(png).decode(),
        )
        return float(share)

    def lit(self) -> int:
        """How many pixels of the canvas are not black."""
        count = self.page.evaluate(
            """() => {
              const shown = document.querySelector("#screen canvas");
              const data = shown.getContext("2d").getImageData(0, 0, shown.width, shown.height).data;
              let lit = 0;
              for (let i = 0; i < data.length; i += 4) if (data[i] + data[i + 1] + data[i + 2] > 0) lit++;
              return lit;
            }"""
        )
        return int(count)

    def box(self) -> dict[str, Any]:
        """Where the canvas stands in the window, in CSS pixels."""
        found = self.page.locator("#screen canvas").bounding_box()
        assert found, json.dumps(self.status)
        return dict(found)
