"""JSON in and out, strictly: what two readers could read differently is refused at the door.

Bodies: UTF-8, at most 64 KiB, at most 16 levels, no duplicate keys, no NaN or Infinity, no lone surrogates.
An empty body is no body. Next: `reconciler.api.context`, which reads every request's body with this.
"""

from __future__ import annotations

import json
import math
from typing import NoReturn

JsonObject = dict[str, object]

BODY_MAX_BYTES = 64 * 1024
DEPTH_MAX = 16
CONTENT_TYPE = "application/json"

_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


class BodyError(ValueError):
    """A body that is not the JSON that is accepted; the message says why, in English."""


def encode(value: object) -> bytes:
    """Compact UTF-8 JSON."""
    return _encoder.encode(value).encode()


def decode(data: bytes) -> JsonObject:
    """The one object that `data` holds; no bytes at all are an object without members. Raises BodyError."""
    if not data:
        return {}
    try:
        value = json.loads(
            data.decode(), object_pairs_hook=_object, parse_constant=_constant, parse_float=_finite
        )
    except RecursionError as error:
        raise BodyError(f"nested more than {DEPTH_MAX} levels deep") from error
    except UnicodeDecodeError as error:
        raise BodyError(f"not UTF-8 at byte {error.start}") from error
    except BodyError:
        raise
    except ValueError as error:
        raise BodyError(f"not JSON: {error}") from error
    if not isinstance(value, dict):
        raise BodyError("the body must be a JSON object")
    _check(value)
    return value


def is_json(content_type: str | None) -> bool:
    """Whether a Content-Type names JSON in UTF-8."""
    kind, _, parameters = (content_type or "").partition(";")
    charset = parameters.strip().lower().replace('"', "").replace(" ", "")
    return kind.strip().lower() == CONTENT_TYPE and charset in {"", "charset=utf-8"}


def _object(pairs: list[tuple[str, object]]) -> JsonObject:
    members = dict(pairs)
    if len(members) < len(pairs):
        names = [name for name, _ in pairs]
        raise BodyError(
            f"the key {next(n for n in names if names.count(n) > 1)!r} stands twice in one object"
        )
    return members


def _constant(text: str) -> NoReturn:
    raise BodyError(f"{text} is no JSON number")


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise BodyError(f"the number {text} is too large")
    return number


def _check(root: JsonObject) -> None:
    """Depth and text, without recursion: the body may be as deep as the parser allowed."""
    level: list[object] = [root]
    for _ in range(DEPTH_MAX):
        for value in level:
            _check_text(value)
        level = [child for value in level for child in _children(value)]
        if not level:
            return
    raise BodyError(f"nested more than {DEPTH_MAX} levels deep")


def _children(value: object) -> list[object]:
    match value:
        case dict():
            return [*value.keys(), *value.values()]
        case list():
            return value
        case _:
            return []


def _check_text(value: object) -> None:
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise BodyError("a string holds half a surrogate pair, which is no character") from error
