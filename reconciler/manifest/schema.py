"""The JSON Schema of manifests, and its findings as problems: where, what was found, what is expected.

The schema lies in `schemas/`, for editors and tools as well; no field is defined a second time. The agent,
the API and the command line check with `complaints`. Next: `reconciler.manifest.decode`.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from jsonschema import Draft202012Validator, ValidationError
from jsonschema.validators import extend

from reconciler.manifest.nodes import Document, FieldPath, Value, dotted, place_of
from reconciler.manifest.yaml_reader import MAX_PROBLEMS
from reconciler.model.vm import Problem

Schema = dict[str, Any]

_FILE = "virtualmachine.schema.json"
_PACKAGE = Path(__file__).resolve().parent.parent
_SHOWN_MAX = 60
_KEY_SHOWN_MAX = 40


class Complaint(NamedTuple):
    """One thing wrong with a value. `path` leads to it, or to where the missing field belongs."""

    path: FieldPath
    found: str
    expected: str

    def __str__(self) -> str:
        return f"found {self.found}, expected {self.expected}"


@cache
def schema() -> Schema:
    """The JSON Schema of a manifest: from the installed package, else from the checkout's `schemas/`."""
    inside, beside = (root / "schemas" / _FILE for root in (_PACKAGE, _PACKAGE.parent))
    found: Schema = json.loads((inside if inside.is_file() else beside).read_text("utf-8"))
    return found


def complaints(value: Value, at: Sequence[str] = ()) -> tuple[Complaint, ...]:
    """All that is wrong with a value that stands at the path `at` of a manifest, () being all of it."""
    validator = _validator()
    part = validator.schema
    for name in at:
        part = part["properties"][name]
    first: dict[FieldPath, Complaint] = {}
    for error in islice(validator.descend(value, part), MAX_PROBLEMS):
        for complaint in _complaints_of(error):
            first.setdefault(complaint.path, complaint)
    return tuple(islice(first.values(), MAX_PROBLEMS))


def problems(found: Iterable[Complaint], document: Document, file: str) -> tuple[Problem, ...]:
    """Complaints with their places in the file, in its order."""
    placed = ((place_of(document.root, one.path), one) for one in found)
    said = (Problem(file, place.line, place.column, dotted(one.path), str(one)) for place, one in placed)
    return tuple(sorted(said, key=lambda problem: (problem.line, problem.column)))


def _complaints_of(error: Any) -> Iterator[Complaint]:
    # Any: a ValidationError, whose published types allow for fields that validation always sets.
    path: FieldPath = tuple(error.absolute_path)
    part: Schema = error.schema
    match error.validator:
        case "additionalProperties":
            known = part.get("properties", {})
            unknown = (key for key in error.instance if key not in known)
            yield from (_unknown_field(path, key, list(known)) for key in islice(unknown, MAX_PROBLEMS))
        case "required":
            missing = (key for key in part["required"] if key not in error.instance)
            yield from (
                Complaint((*path, key), "nothing", _expected(part["properties"][key])) for key in missing
            )
        case "maxLength":
            found = f"text of {len(error.instance)} characters"
            yield Complaint(path, found, f"at most {part['maxLength']}")
        case "maxItems":
            yield Complaint(path, f"a list of {len(error.instance)}", f"at most {part['maxItems']}")
        case "type":
            yield Complaint(
                path, describe(error.instance), _expected(part) + _quotes_hint(error.instance, part)
            )
        case _:
            yield Complaint(path, describe(error.instance), _expected(part))


def describe(value: Value) -> str:
    """A value in a message: short, and of the kind that it is."""
    match value:
        case None | "":
            return "nothing" if value is None else "empty text"
        case bool():
            return str(value).lower()
        case str():
            shown = value if len(value) <= _SHOWN_MAX else value[:_SHOWN_MAX] + "…"
            return json.dumps(shown, ensure_ascii=False)
        case list():
            return "a list"
        case dict():
            return "a section of fields"
        case _:
            return f"the number {value}"


def _expected(part: Schema) -> str:
    """What a part of the schema allows, in words."""
    if "$ref" in part:
        return _expected(schema()["definitions"][part["$ref"].rpartition("/")[2]])
    if "const" in part:
        return str(part["const"])
    if "enum" in part:
        return " or ".join(part["enum"])
    if "patternErrorMessage" in part:
        message = str(part["patternErrorMessage"])
        return message.removeprefix("Expected ").removesuffix(".")
    kind = part["type"] if isinstance(part["type"], str) else part["type"][0]
    match kind:
        case "integer":
            return f"a whole number from {part['minimum']} to {part['maximum']} ({part['title']})"
        case "boolean":
            return "true or false"
        case "array":
            return "a list"
        case _:
            fields = ", ".join(part.get("properties", ()))
            return f"a section with the fields {fields}" if fields else "a section of names and texts"


def _quotes_hint(value: Value, part: Schema) -> str:
    wants_any_text = part["type"] == "string" and "enum" not in part
    return "; quotes make text of it" if wants_any_text and isinstance(value, bool | int | float) else ""


def _unknown_field(path: FieldPath, key: str, known: list[str]) -> Complaint:
    section = _section_of(key)
    near = difflib.get_close_matches(key[:_SHOWN_MAX], known, n=1)
    if section is not None and len(path) < 2 and path != (section,):
        expected = f"it under {section}"
    else:
        expected = near[0] if near else "one of " + ", ".join(known)
    return Complaint((*path, key), f"the unknown field {key[:_KEY_SHOWN_MAX]}", expected)


def _section_of(key: str) -> str | None:
    """The section of a manifest that has this field."""
    sections = schema()["properties"]
    return next((name for name in ("spec", "metadata") if key in sections[name]["properties"]), None)


def _match_whole(
    _validator: object, pattern: str, instance: object, _part: Schema
) -> Iterator[ValidationError]:
    """`pattern` as ECMA means it: `$` is the end of the text, whereas Python's lets a line break pass."""
    whole = pattern.removeprefix("^").removesuffix("$")
    if isinstance(instance, str) and not re.fullmatch(whole, instance):
        yield ValidationError(f"does not match {pattern}")


@cache
def _validator() -> Any:
    # Any: `descend`, which every validator has, is missing from the published types.
    strict: Any = extend
    # Without `$schema`: jsonschema would choose its own validator by it, and our `pattern` would be lost.
    plain = {key: part for key, part in schema().items() if key != "$schema"}
    return strict(Draft202012Validator, {"pattern": _match_whole})(plain)
