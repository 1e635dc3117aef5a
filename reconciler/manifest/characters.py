"""From the bytes of a file to characters that a parser may see; whatever is wrong is noted and replaced.

Replacing one for one keeps every place true, so that reading goes on and the other problems are found.
"""

from __future__ import annotations

import re
import unicodedata
from itertools import islice

from reconciler.model.vm import Problem

FORBIDDEN = re.compile(
    "[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)
"""Characters that no manifest holds as they are: YAML forbids them, or its versions disagree on them."""

BREAK = re.compile(r"\r\n|\r|\n")
_BOM = "\ufeff"
_PROBLEMS_MAX = 20


def characters(data: bytes, file: str) -> tuple[str, list[Problem]]:
    """The text of a file, without a byte order mark, and what must not be in it."""
    problems: list[Problem] = []
    try:
        text = data.decode("utf-8").removeprefix(_BOM)
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8").removeprefix(_BOM)
        found = f"found the byte 0x{data[error.start]:02x}, expected UTF-8: save the file in that encoding"
        problems.append(_problem_behind(before, file, found))
        text = data.decode("utf-8", errors="replace").removeprefix(_BOM)
    for match in islice(FORBIDDEN.finditer(text), _PROBLEMS_MAX):
        found = f"found {_called(match.group())}, expected printable text (in double quotes, \\u escapes it)"
        problems.append(_problem_behind(text[: match.start()], file, found))
    return FORBIDDEN.sub("\ufffd", text), problems


def _problem_behind(before: str, file: str, message: str) -> Problem:
    lines = BREAK.split(before)
    return Problem(file, len(lines), len(lines[-1]) + 1, "", message)


def _called(char: str) -> str:
    return f"U+{ord(char):04X} ({unicodedata.name(char, 'a control character').lower()})"
