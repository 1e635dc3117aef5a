"""The command `reconciler`: its subcommands, each loaded when it is called, and what an error looks like.

Next: `reconciler.cli.vms`.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import click

from reconciler import __version__
from reconciler.model.errors import ReconcilerError, SettingsError

FAILED, USAGE, INTERRUPTED = 1, 2, 130

COMMANDS = {
    "run": "agent:run",
    "host-shutdown": "agent:host_shutdown",
    "get": "vms:get",
    "describe": "vms:describe",
    "explain": "vms:explain",
    "start": "writes:start",
    "stop": "writes:stop",
    "recreate": "writes:recreate",
    "rename": "writes:rename",
    "restore": "writes:restore",
    "prune": "writes:prune",
    "validate": "manifests:validate",
    "schema": "manifests:schema",
    "fields": "fields:fields",
    "import": "importing:import_",
    "doctor": "doctor:doctor",
    "systemd": "systemd:systemd",
    "version": "main:version",
}


class Commands(click.Group):
    """The subcommands. None is imported before it is needed."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does; an option before the command most likely belongs behind it."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            where = f"options stand behind the command: reconciler get {error.option_name} …"
            raise click.UsageError(f"No such option {error.option_name!r} here; {where}", ctx) from error

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 -- click's
        """In the order in which they are explained."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 -- click's
        """Import one."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].partition(":")
        command = getattr(import_module(f"reconciler.cli.{module}"), attribute)
        assert isinstance(command, click.Command)  # noqa: S101 -- a slip in the table above
        return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="reconciler", message="%(prog)s %(version)s")
def cli() -> None:
    """Keep the QEMU virtual machines of this host as a directory of YAML manifests says they should be.

    Exit codes: 0 done, 1 failed or found something wrong, 2 wrong usage or settings.
    """


@click.command()
def version() -> None:
    """Print the version of this program."""
    click.echo(f"reconciler {__version__}")


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line; ends the process with its exit code."""
    try:
        sys.exit(cli.main(args=arguments, prog_name="reconciler", standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted; what the agent was asked for goes on", err=True)
        sys.exit(INTERRUPTED)
    except ReconcilerError as error:
        click.echo(f"reconciler: {error}", err=True)
        sys.exit(USAGE if isinstance(error, SettingsError) else FAILED)
    except BrokenPipeError:
        sys.stderr.close()  # whoever reads us has seen enough
        sys.exit(FAILED)
