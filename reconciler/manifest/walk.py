"""Finds the manifest files below a directory: `*.yaml` and `*.yml`, in sub-directories too, hidden ones not.

Symlinked directories are followed, each real directory once: a tree that links to itself ends, and one that
git-sync or a ConfigMap made is seen. Next: `reconciler.manifest.scan`.
"""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class Candidate:
    """A file that may be a manifest. `shown` is its path relative to the root, printable in any case."""

    shown: str
    path: str
    is_link: bool


@dataclass
class Tree:
    """What a walk found. `troubles` are the sub-directories that cannot be listed, with the reason.

    `vanished`: a directory went away during the walk, perhaps renamed: the walk may have missed files.
    """

    candidates: list[Candidate] = field(default_factory=list)
    troubles: dict[str, OSError] = field(default_factory=dict)
    dot_gits: list[str] = field(default_factory=list)
    vanished: bool = False


def walk(root: Path) -> Tree:
    """Everything below `root`, real files before links. Raises OSError if the root cannot be listed."""
    tree = Tree()
    waiting: deque[tuple[str, str]] = deque([("", str(root))])
    seen: set[tuple[int, int]] = set()
    while waiting:
        relative, directory = waiting.popleft()
        try:
            identity = os.stat(directory)
            if (identity.st_dev, identity.st_ino) in seen:
                continue
            seen.add((identity.st_dev, identity.st_ino))
            real, links = _list(relative, directory, tree)
        except OSError as error:
            if not relative:
                raise
            _not_listed(tree, relative, directory, error)
            continue
        waiting.extendleft(reversed(real))  # whatever is real is seen under its real path,
        waiting.extend(links)  # and links lead to the rest
    tree.candidates.sort(key=lambda c: (c.is_link, c.shown))
    return tree


def _list(relative: str, directory: str, tree: Tree) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Note the files of one directory; return its sub-directories, the real ones and the symlinked."""
    real: list[tuple[str, str]] = []
    links: list[tuple[str, str]] = []
    with os.scandir(directory) as entries:
        for entry in sorted(entries, key=lambda e: e.name):
            if entry.name == ".git":
                tree.dot_gits.append(entry.path)
            if entry.name.startswith("."):
                continue
            if _is_directory(entry):
                found = (f"{relative}{_printable(entry.name)}/", entry.path)
                (links if entry.is_symlink() else real).append(found)
            elif entry.name.endswith(SUFFIXES):
                shown = relative + _printable(entry.name)
                tree.candidates.append(Candidate(shown, entry.path, entry.is_symlink()))
    return real, links


def _not_listed(tree: Tree, relative: str, directory: str, error: OSError) -> None:
    if isinstance(error, FileNotFoundError | NotADirectoryError) and not os.path.isdir(directory):
        tree.vanished = True
    else:
        tree.troubles[relative] = error


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself: reading it will say so
        return False


def _printable(name: str) -> str:
    return name if name.isascii() else os.fsencode(name).decode(errors="backslashreplace")
