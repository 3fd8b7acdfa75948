"""The one command line, ``tapeline``. Every command has ``--json``.

Exit codes: 0 ok, 1 error, 2 usage, 3 not running, 4 configuration, 5 time-out. Commands of installed packages
(``backtest``, ``migrate``, ``verify`` ...) join through the entry point group ``tapeline.commands``.
"""

from __future__ import annotations

import sys
from importlib.metadata import entry_points

import click

from tapeline_common import __version__
from tapeline_common.settings import ConfigurationInvalid


class Commands(click.Group):
    """Loads a command's module only when it is called, so that ``tapeline backtest`` starts fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(entry.name for entry in entry_points(group="tapeline.commands"))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        for entry in entry_points(group="tapeline.commands", name=cmd_name):
            command = entry.load()
            assert isinstance(command, click.Command), f"{entry.value} is no command"
            return command
        return None


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tapeline")
def tapeline() -> None:
    """An event-sourced trading platform: every decision replayable bit for bit."""


def main() -> None:
    """Run the command line; expected trouble ends with one message and its exit code."""
    from tapeline_common.exits import EXIT_CONFIGURATION

    try:
        tapeline.main(standalone_mode=False)
    except ConfigurationInvalid as trouble:
        click.echo(f"configuration: {trouble}", err=True)
        sys.exit(EXIT_CONFIGURATION)
    except click.exceptions.Exit as leave:
        sys.exit(leave.exit_code)
    except click.Abort:
        sys.exit(1)
    except click.ClickException as trouble:
        trouble.show()
        sys.exit(trouble.exit_code)


if __name__ == "__main__":
    main()
