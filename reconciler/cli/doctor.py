"""`doctor`: what this host lacks, and how to get it. The checks stand in `reconciler.cli.checks`."""

from __future__ import annotations

import os

import click

from reconciler.cli.checks import CHECKS, Finding, Level
from reconciler.cli.config import Host, load
from reconciler.cli.options import OF_THE_AGENT, settings_options
from reconciler.cli.output import counted, say

COLOURS = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "red"}


@click.command(short_help="Say what this host lacks, and the remedy.")
@settings_options((*OF_THE_AGENT, "server"))
def doctor(**flags: str | None) -> int:
    """Look at this host: what the agent needs, what is missing, and how to get it.

    Needs no agent and changes nothing. Exits with 1 if something fails.
    """
    config = load(flags, Host.current())
    findings = [finding for check in CHECKS for finding in check(config)]
    plain = False if os.environ.get("NO_COLOR") else None
    for finding in findings:
        click.echo(_line(finding), color=plain)
    fails = sum(finding.level is Level.FAIL for finding in findings)
    warns = sum(finding.level is Level.WARN for finding in findings)
    say(f"{fails} failed, {counted(warns, 'warning')}")
    return 1 if fails else 0


def _line(finding: Finding) -> str:
    head = click.style(f"{finding.level:<4}", fg=COLOURS[finding.level])
    remedy = f"\n      → {finding.remedy}" if finding.remedy else ""
    return f"{head}  {finding.what}: {finding.found}{remedy}"
