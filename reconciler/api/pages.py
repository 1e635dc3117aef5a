"""Our own pages that the API serves, from the exact map of `reconciler.assets`. They hold no secrets.

A page that wants the API's token asks for it; so the pages themselves are open to whoever passes the gate's other
questions. Next: `reconciler.api.access`.
"""

from __future__ import annotations

import falcon

from reconciler import assets

HOME, CONSOLES_PATH = "/", "/consoles"
CONSOLES: assets.Assets = {
    CONSOLES_PATH: assets.PAGES / "consoles.html",
    **assets.pages("consoles.js", "words.js", "page.css", "icon.svg", below=f"{CONSOLES_PATH}/"),
}

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


class Home:
    """What somebody finds who types the address alone."""

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """The page of consoles."""
        resp.status = 302
        resp.set_header("Location", CONSOLES_PATH)


class Page:
    """One file of a page."""

    def __init__(self, path: str) -> None:
        self._file = CONSOLES[path]

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """The file as it is."""
        resp.data = self._file.read_bytes()
        resp.content_type = assets.CONTENT_TYPES[self._file.suffix]
        resp.set_headers(HEADERS)
