"""The agent's log on stderr: with the time on a terminal or in a file, with priorities for the journal.

systemd says by JOURNAL_STREAM that stderr leads to the journal, which keeps the time itself.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping

PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


class JournalFormatter(logging.Formatter):
    """Each line begins with the priority in angle brackets, as sd-daemon(3) has it."""

    def format(self, record: logging.LogRecord) -> str:
        """The message, prefixed line by line: a traceback is many."""
        prefix = f"<{PRIORITIES.get(record.levelno, 6)}>"
        return "\n".join(prefix + line for line in super().format(record).splitlines())


def set_up(environ: Mapping[str, str]) -> None:
    """Log to stderr from now on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(journal="JOURNAL_STREAM" in environ))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


def formatter(*, journal: bool) -> logging.Formatter:
    """How lines look."""
    if journal:
        return JournalFormatter("%(message)s")
    return logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")
