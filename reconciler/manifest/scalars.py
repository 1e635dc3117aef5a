"""The scalars of YAML 1.2, both ways: what a word in a file means, and how a value is written.

YAML 1.1, which most tools still speak, reads `no` as false, `010` as 8 and a MAC address as a number.
Here these are text, an error that explains itself, and text. Next: `reconciler.manifest.yaml_reader`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping

from reconciler.manifest.characters import FORBIDDEN
from reconciler.manifest.nodes import Atom, Value

_NAMED: Mapping[str, Atom] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_STARTS_OTHERWISE = frozenset("0123456789+-.~nNtTfF")
_DECIMAL = re.compile(r"[-+]?[0-9]+\Z")
_RADIX = re.compile(r"0(?:o[0-7]+|x[0-9a-fA-F]+)\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)\Z|\.(?:nan|NaN|NAN)\Z")
_DIGITS_MAX = 20

# Narrower than YAML 1.2, so that a tool that speaks 1.1 reads the same: no dates, no `no`.
_PLAIN = re.compile(r"[A-Za-z_./](?:[A-Za-z0-9_./+@%=~,:-]*[A-Za-z0-9_./+@%=~])?\Z")
_PLAIN_NEVER = re.compile(r"(?:y|n|yes|no|on|off|---|\.\.\.)\Z", re.IGNORECASE)
_FLOW_BREAKERS = frozenset(",:")


class ScalarError(ValueError):
    """A plain scalar that looks like a number and may not be one; the message says how to write it."""


def resolve(text: str) -> Atom:
    """What a plain scalar means. Raises ScalarError for leading zeros and numbers that are not finite."""
    if text in _NAMED:
        return _NAMED[text]
    if text[0] not in _STARTS_OTHERWISE:
        return text
    if _DECIMAL.match(text):
        return _decimal(text)
    if _RADIX.match(text):
        return int(_short(text), 0)
    if _FLOAT.match(text) or _NOT_FINITE.match(text):
        return _float(text)
    return text


def render(value: Value, *, flow: bool, style: str = "") -> str:
    """The value as YAML on one line that `resolve` reads back as the same; `flow` inside of braces, brackets.

    `style` is the quote character that a string had before, and keeps where it can.
    """
    match value:
        case str():
            return _render_text(value, flow=flow, style=style)
        case list():
            return "[" + ", ".join(render(item, flow=True) for item in value) + "]"
        case dict():
            pairs = (f"{render(key, flow=True)}: {render(item, flow=True)}" for key, item in value.items())
            return "{" + ", ".join(pairs) + "}"
        case _:
            return json.dumps(value, allow_nan=False)


def _render_text(text: str, *, flow: bool, style: str) -> str:
    if style == "'" and text.isprintable() and not FORBIDDEN.search(text):
        return "'" + text.replace("'", "''") + "'"
    if style != '"' and _is_plain(text, flow=flow):
        return text
    return FORBIDDEN.sub(_escape, json.dumps(text, ensure_ascii=False))


def _is_plain(text: str, *, flow: bool) -> bool:
    if not _PLAIN.match(text) or _PLAIN_NEVER.match(text) or (flow and _FLOW_BREAKERS & set(text)):
        return False
    try:
        return resolve(text) == text
    except ScalarError:
        return False


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def _decimal(text: str) -> int:
    digits = text.lstrip("+-")
    if digits[0] == "0" and len(digits) > 1:
        raise ScalarError(_leading_zero(_short(text), digits))
    return int(_short(text))


def _leading_zero(text: str, digits: str) -> str:
    sign = "-" if text.startswith("-") else ""
    decimal = sign + (digits.lstrip("0") or "0")
    octal = "" if sign or set(digits) & set("89") else f" or 0o{digits.lstrip('0') or '0'} ({int(digits, 8)})"
    return f'found {text} with a leading zero, expected {decimal}{octal}, or "{text}" in quotes for text'


def _short(text: str) -> str:
    if len(text) > _DIGITS_MAX:
        found = f"found a number of {len(text)} characters, expected at most {_DIGITS_MAX}"
        raise ScalarError(f"{found}; quotes make text of it")
    return text


def _float(text: str) -> float:
    value = math.nan if _NOT_FINITE.match(text) else float(text)
    if not math.isfinite(value):
        raise ScalarError(f'found {text[:40]}, expected a finite number, or "{text[:40]}" in quotes for text')
    return value
