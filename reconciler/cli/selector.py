"""Label selectors, as `kubectl -l` takes them: `tier=web,env!=test,gpu,!old`. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from reconciler.model.errors import SettingsError

_TERM = re.compile(r"(?P<no>!)?(?P<key>[^\s!=,]+)\s*(?:(?P<op>==|=|!=)\s*(?P<value>[^\s!=,]*))?\Z")

Labels = Mapping[str, str]
Selector = Callable[[Labels], bool]


def parse(text: str) -> Selector:
    """What tells whether labels are selected; every term must hold. Raises SettingsError."""
    terms = [_term(part.strip()) for part in text.split(",")]
    return lambda labels: all(term(labels) for term in terms)


def _term(text: str) -> Selector:
    form = _TERM.match(text)
    if form is None or (form["no"] and form["op"]):
        raise SettingsError(
            f"-l: found {text!r}, expected key=value, key!=value, key or !key, comma-separated"
        )
    key, value = form["key"], form["value"]
    match form["op"]:
        case None:
            wanted = form["no"] is None
            return lambda labels: (key in labels) is wanted
        case "!=":
            return lambda labels: labels.get(key) != value
        case _:
            return lambda labels: labels.get(key) == value
