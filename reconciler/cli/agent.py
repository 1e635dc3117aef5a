"""`run` and `host-shutdown`: the agent itself, in this process."""

from __future__ import annotations

import os
import sys

import click

from reconciler import lock
from reconciler.cli.config import Host, load
from reconciler.cli.logs import set_up
from reconciler.cli.options import OF_THE_AGENT, settings_options
from reconciler.cli.output import say
from reconciler.heartbeat import Manager
from reconciler.layout import Layout


@click.command(short_help="Run the agent in the foreground.")
@settings_options(OF_THE_AGENT)
def run(**flags: str | None) -> int:
    """Run the agent in the foreground, until it is interrupted.

    VMs go on when it ends, however it ends; the next agent takes them over.
    """
    settings = load(flags, Host.current()).settings()
    lock.must_be_free(
        Layout(settings.state_dir, settings.run_dir).lock
    )  # before the second that imports take
    from reconciler import agent

    set_up(os.environ)
    status = agent.run(settings, Manager.of(os.environ, os.getpid()))
    if sys.stderr.isatty():
        say(
            "`reconciler host-shutdown` with the same settings shuts the VMs down; in a checkout, `make stop`"
        )
    return status


@click.command("host-shutdown", short_help="Shut all VMs down properly.")
@settings_options(OF_THE_AGENT)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0, min_open=True),
    default=90.0,
    show_default=True,
    metavar="SECONDS",
    help="How long all VMs together may take.",
)
def host_shutdown(timeout_s: float, **flags: str | None) -> int:
    """Shut all VMs down properly, as before the host goes down; ends the agent first.

    Manifests stay as they are, so the next agent starts the VMs again.
    """
    settings = load(flags, Host.current()).settings()
    from reconciler import agent

    set_up(os.environ)
    status = agent.host_shutdown(settings, timeout_s)
    if status == 0:
        say("all VMs are off; no manifest was changed, and the next agent starts those that should run")
    else:
        say("not every VM is off, see above; the same command once more goes on with them")
    return status
