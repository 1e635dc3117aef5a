"""`/openapi.json`, and `/docs`, where swagger-ui shows it: its package comes from npm, the page around it is ours.

Next: `reconciler.api.openapi`.
"""

from __future__ import annotations

from functools import cache

import falcon

from reconciler import assets
from reconciler.api import media, pages
from reconciler.api.context import call_of
from reconciler.api.messages import Language
from reconciler.api.openapi import document

DOCUMENT_PATH, DOCS_PATH = "/openapi.json", "/docs"
DOCS: assets.Assets = {
    DOCS_PATH: assets.PAGES / "docs.html",
    **assets.pages("docs.js", "docs.css", "icon.svg", below=f"{DOCS_PATH}/"),
    f"{DOCS_PATH}/swagger-ui.css": assets.SWAGGER_UI / "swagger-ui.css",
    f"{DOCS_PATH}/swagger-ui-bundle.js": assets.SWAGGER_UI / "swagger-ui-bundle.js",
}


class Document:
    """`/openapi.json`."""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """The document, its words in the language asked for."""
        resp.content_type = media.CONTENT_TYPE
        resp.data = _encoded(call_of(req).language)


class DocsPage:
    """One file of the page. swagger-ui runs under the headers of all our pages: no inline script, no inline style."""

    def __init__(self, path: str) -> None:
        self._file = DOCS[path]

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """The file as it is."""
        resp.data = self._file.read_bytes()
        resp.content_type = assets.CONTENT_TYPES[self._file.suffix]
        resp.set_headers(pages.HEADERS)


@cache
def _encoded(language: Language) -> bytes:
    return media.encode(document(language))
