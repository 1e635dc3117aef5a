"""What libyaml's complaints mean, in words for people who did not write a YAML parser."""

from __future__ import annotations

import yaml

from reconciler.model.vm import Problem

_WORDS = {
    "mapping values are not allowed in this context": (
        'found a ":" where none may be, expected one field a line, and quotes around text that holds ": "'
    ),
    "found character that cannot start any token": (
        "found a character that nothing starts with, expected spaces instead of tabs, and quotes around @ ` %"
    ),
    "could not find expected ':'": 'found text without a ":" behind it, expected "field: value"',
    "did not find expected key": (
        "found something between the fields, expected all fields of a section at the same indentation"
    ),
    "did not find expected '-' indicator": (
        "found something between the items of a list, expected all dashes at the same indentation"
    ),
    "did not find expected ',' or '}'": 'found no "," or "}", expected the brace to be closed',
    "did not find expected ',' or ']'": 'found no "," or "]", expected the bracket to be closed',
    "did not find expected node content": "found no value, expected one",
    "did not find expected <document start>": (
        "found something behind the end of the document, expected a line --- before the next one"
    ),
    "found unexpected end of stream": "found the end of the file within quotes, expected the closing quote",
    "found unexpected document indicator": "found --- or ... inside of quotes, expected the closing quote",
    "block sequence entries are not allowed in this context": (
        'found a "-" where no list may be, expected the list on the lines below its field'
    ),
    "block mapping entries are not allowed in this context": "found a field where none may be",
    "found unknown escape character": (
        "found an unknown escape after \\, expected one that YAML knows, or single quotes"
    ),
    "found invalid Unicode character escape code": "found an escape that is no character",
    "found a tab character where an indentation space is expected": "found a tab, expected spaces",
    "found a tab character that violates indentation": "found a tab, expected spaces",
    "found unknown directive name": "found an unknown % directive, expected none",
    "did not find expected comment or line break": "found something behind | or >, expected a new line",
}
_OPENED = {"flow mapping": "brace", "flow sequence": "bracket", "quoted scalar": "quote"}


def explain(error: yaml.YAMLError, file: str) -> Problem:
    """The parser's error as a problem at its place."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return Problem(file, 1, 1, "", f"not YAML: {error}")
    mark = error.problem_mark
    words = _WORDS.get(str(error.problem), f"not YAML: {error.problem}")
    return Problem(file, mark.line + 1, mark.column + 1, "", words + _opened(error))


def _opened(error: yaml.MarkedYAMLError) -> str:
    """Where that began which was not closed."""
    what = next((word for part, word in _OPENED.items() if part in str(error.context)), None)
    start = error.context_mark
    if what is None or start is None:
        return ""
    return f" (the {what} is opened on line {start.line + 1}, column {start.column + 1})"
