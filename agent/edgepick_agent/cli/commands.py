"""The command group: a literal table, each command's module imported when it is called.

A command body is parse, one call, render. Errors are rendered here, for every command alike.
"""

import importlib
import sys
from typing import Any

import click

from edgepick_agent.cli.failures import READER_GONE, reader_gone, render
from edgepick_wire.version import __version__

COMMANDS = {
    "init": ("edgepick_agent.cli.init:init", "Write a commented agent.toml for this machine."),
    "config": ("edgepick_agent.cli.configuration:config", "Check the configuration, or show each value's origin."),
    "run": ("edgepick_agent.cli.run:run", "Run the agent until it is told to stop."),
    "status": ("edgepick_agent.cli.status:status", "Show what this device runs, on one screen."),
    "doctor": ("edgepick_agent.cli.doctor:doctor", "Check everything that the agent needs; say how to mend it."),
    "watch": ("edgepick_agent.cli.watch:watch", "Show the status again and again."),
    "infer": ("edgepick_agent.cli.infer:infer", "Put an image or an array through the active model."),
    "install": ("edgepick_agent.cli.bundle:install", "Install a bundle file, e.g. from a USB stick."),
    "rollback": ("edgepick_agent.cli.bundle:rollback", "Return a model to its previous variant."),
    "pin": ("edgepick_agent.cli.pin:pin", "Stay on a variant until it is unpinned, whatever the host wants."),
    "unpin": ("edgepick_agent.cli.pin:unpin", "Let the host's wish count again."),
    "logs": ("edgepick_agent.cli.logs:logs", "Show what the agent said."),
    "benchmark": ("edgepick_agent.cli.benchmark:benchmark", "Measure any model file on this machine."),
    "compare": ("edgepick_agent.cli.compare:compare", "Lay two results of benchmark --json side by side."),
    "support-bundle": ("edgepick_agent.cli.support:support_bundle", "Collect what somebody else needs to help."),
    "completion": ("edgepick_agent.cli.completion:completion", "Print a script that completes commands in a shell."),
    "service": ("edgepick_agent.cli.service:service", "Install or remove the systemd service."),
}
"""Name -> where it is defined, and its line in the help."""


class AgentGroup(click.Group):
    """A group that imports a command on use and turns every error into one message."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names in the order a technician needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Return the command, imported now."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that ``args`` begin with; an unknown one is a usage error with a suggestion."""
        import difflib

        close = difflib.get_close_matches(args[0], COMMANDS, n=1) if args[0] not in COMMANDS else []
        if close and not args[0].startswith("-"):
            ctx.fail(f"No such command {args[0]!r}. Did you mean {close[0]!r}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the commands from the table, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Do what click does; that the help cannot be written becomes a message too."""
        try:
            return super().main(*args, **kwargs)
        except OSError as error:
            sys.exit(render(error))

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; whatever it raises becomes one message and an exit code."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except BrokenPipeError as error:
            ctx.exit(READER_GONE if reader_gone() else render(error, verbose=bool(ctx.params.get("verbose"))))
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the last stop before a person
            ctx.exit(render(error, verbose=bool(ctx.params.get("verbose"))))


@click.group(cls=AgentGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--verbose", is_flag=True, envvar="EDGEPICK_AGENT_VERBOSE", help="Show the trace of an error.")
@click.version_option(__version__, prog_name="edgepick-agent")
def cli(*, verbose: bool) -> None:  # read by the group's error handling
    """Fetch, verify, try, run and measure models on this device.

    Exit codes: 0 done, 1 refused or failed, 2 usage or configuration, 3 unreachable, 4 verification failed.
    """
