"""The files of our web pages, and those of npm's packages that they use: an exact map from URL path to file.

What is not in the map is not served: there is no path to traverse, and no directory to list. The pages lie in
`web/pages`, the packages where npm puts them (`make setup`); a wheel carries both.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

WEB = Path(__file__).parent / "web"
PAGES = WEB / "pages"
NOVNC = WEB / "node_modules" / "@novnc" / "novnc"
SWAGGER_UI = WEB / "node_modules" / "swagger-ui-dist"

CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
}

Assets = Mapping[str, Path]


class MissingAssetsError(Exception):
    """npm's packages are not there; the message says how to get them."""


def pages(*names: str, below: str = "/") -> Assets:
    """Some of our own pages' files."""
    return {below + name: PAGES / name for name in names}


def tree(directory: Path, below: str) -> Assets:
    """Every file of these types in a directory of ours or of a package. Raises MissingAssetsError."""
    found = {
        below + path.relative_to(directory).as_posix(): path
        for path in sorted(directory.rglob("*"))
        if path.suffix in CONTENT_TYPES and path.is_file()
    }
    if not found:
        raise MissingAssetsError(f"{directory} is missing or empty; in a checkout, run `make setup`")
    return found


def console() -> Assets:
    """What a noVNC service serves. Raises MissingAssetsError."""
    return {
        "/": PAGES / "vnc.html",
        **pages("vnc.html", "vnc.js", "keys.js", "words.js", "page.css", "icon.svg"),
        **tree(NOVNC / "core", "/novnc/core/"),
        **tree(NOVNC / "vendor", "/novnc/vendor/"),
    }
