"""Every answer that a test gets from the API is held to the API's own document, more strictly than clients need to.

An object may hold nothing but what the document lists. Used by the clients of the contract and the end-to-end tests.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from functools import cache
from typing import Any
from urllib.parse import unquote, urlsplit

from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from reconciler.api import docs, pages
from reconciler.api.messages import Language
from reconciler.api.openapi import document

DOCUMENT = "urn:openapi"
FILES = {pages.HOME, *docs.DOCS, *pages.CONSOLES}
ELSEWHERE: Mapping[str, Any] = {"$ref": f"{DOCUMENT}#/components/schemas/Error"}


def check(method: str, path: str, status: int, content_type: str | None, body: object) -> None:
    """Fails where an answer is not as documented. `body` is decoded JSON, bytes, or None for no body."""
    where = f"{method} {path}: {status}"
    found = operation(method, unquote(urlsplit(path).path))
    if body is None or method == "OPTIONS" or urlsplit(path).path in FILES:
        return
    if found is None:
        assert status >= 400, f"{where}: not documented"
        _conforms(where, ELSEWHERE, body)
        return
    answers = found["responses"]
    assert str(status) in answers, f"{where}: the status is not documented"
    kind = (content_type or "").partition(";")[0].strip()
    content = answers[str(status)]["content"]
    assert kind in content, f"{where}: {kind} is not documented"
    if kind == "application/json":
        _conforms(where, _absolute(content[kind]["schema"]), body)


def operation(method: str, path: str) -> Mapping[str, Any] | None:
    """What the document says of a method of this path; None where it says nothing."""
    paths = _document()["paths"]
    for template in (path.rstrip("/") or "/", *(t for t in paths if _pattern(t).fullmatch(path.rstrip("/")))):
        if found := paths.get(template, {}).get(method.lower()):
            return dict(found)
    return None


def _conforms(where: str, schema: Mapping[str, Any], body: object) -> None:
    validator = Draft202012Validator(schema, registry=_registry())
    errors = sorted(validator.iter_errors(body), key=lambda e: len(e.absolute_path), reverse=True)
    told = [f"{where}: {'.'.join(map(str, e.absolute_path))}: {e.message[:300]}" for e in errors]
    assert not told, "\n".join(told)


@cache
def _pattern(template: str) -> re.Pattern[str]:
    return re.compile("[^/]+".join(re.escape(part) for part in re.split(r"{\w+}", template)))


@cache
def _document() -> Mapping[str, Any]:
    """The document, its objects closed."""
    found: dict[str, Any] = copy.deepcopy(dict(document(Language.ZH)))
    stack: list[Any] = [found]
    while stack:
        match stack.pop():
            case dict() as part:
                if part.get("type") == "object" and "properties" in part and "required" in part:
                    part.setdefault("additionalProperties", False)
                stack.extend(part.values())
            case list() as parts:
                stack.extend(parts)
    return found


@cache
def _registry() -> Any:
    # Any: the package's types do not fit the dialect's.
    contents = {"$schema": "https://json-schema.org/draft/2020-12/schema", **_document()}
    return Registry().with_resource(DOCUMENT, Resource.from_contents(contents))


def _absolute(schema: Any) -> Any:
    match schema:
        case {"$ref": str(target), **rest}:
            return {"$ref": DOCUMENT + target} | {key: _absolute(value) for key, value in rest.items()}
        case dict():
            return {key: _absolute(value) for key, value in schema.items()}
        case list():
            return [_absolute(each) for each in schema]
    return schema
