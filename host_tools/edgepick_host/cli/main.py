"""The root command: finds the subcommand, imports only that, and turns every error into one message."""

import difflib
import importlib
import logging
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click

from edgepick_host.cli.failures import INTERRUPTED, explain, write_failure
from edgepick_host.cli.options import Globals
from edgepick_host.errors import MissingExtraError
from edgepick_wire.version import __version__


class Entry(NamedTuple):
    """A subcommand: where it is, which extra it needs, and what the help says about it."""

    reference: str
    extra: str
    help: str


COMMANDS: dict[str, Entry] = {
    "profiles": Entry("edgepick_host.cli.profiles:profiles", "host", "Kinds of device: list, show, check."),
    "compress": Entry("edgepick_host.cli.compress:compress", "compress", "Make the variants of a model."),
    "explain": Entry("edgepick_host.cli.explain:explain", "compress", "Why a variant was kept, or was not."),
    "export": Entry("edgepick_host.cli.export:export", "compress", "A variant as C sources for a microcontroller."),
    "cache": Entry("edgepick_host.cli.cache:cache", "compress", "What was compressed before: show, prune."),
    "keys": Entry("edgepick_host.cli.keys:keys", "host", "The fleet's signing keys: make, rotate, revoke."),
    "broker": Entry("edgepick_host.cli.broker:broker", "host", "Set up a broker with TLS and certificates."),
    "publish": Entry("edgepick_host.cli.publish:publish", "host", "Sign variants and hand them to the broker."),
    "prune": Entry("edgepick_host.cli.prune:prune", "host", "Clear what no device needs from the broker."),
    "blobs": Entry("edgepick_host.cli.blobs:blobs", "host", "What the broker keeps: list, prune."),
    "bundle": Entry("edgepick_host.cli.bundle:bundle", "host", "One variant as a file, for a USB stick."),
    "devices": Entry("edgepick_host.cli.devices:devices", "host", "Who is in the fleet: list, show, watch, enroll."),
    "rollout": Entry("edgepick_host.cli.rollout:rollout", "host", "Roll out what wins: start, status, explain, abort."),
    "shadow": Entry("edgepick_host.cli.shadow:shadow", "host", "A candidate on copies of live requests: start, show."),
    "why": Entry("edgepick_host.cli.why:why", "host", "Why a variant was chosen, with the figures."),
    "replay": Entry("edgepick_host.cli.replay:replay", "host", "Derive every decision again from the log."),
    "serve": Entry("edgepick_host.cli.serve:serve", "host", "The host service: reports, selection, rollouts, page."),
    "store": Entry("edgepick_host.cli.store:store", "host", "The host's database: delete old reports."),
    "tokens": Entry("edgepick_host.cli.tokens:tokens", "host", "Access to the service's API and page: add, revoke."),
    "conformance": Entry(
        "edgepick_host.cli.conformance:conformance", "host", "Attack any agent, and see whether it keeps the protocol."
    ),
    "simulate": Entry("edgepick_host.cli.simulate:command", "host", "Thousands of virtual devices at a real broker."),
    "demo": Entry("edgepick_host.cli.demo:demo", "demo", "The whole job on this machine, with a report."),
}
"""Subcommand -> its entry; a module is imported when its command is called, not before."""

OURS = ("edgepick_host", "edgepick_wire", "edgepick_profiles", "edgepick_agent")


class Commands(click.Group):
    """A group whose commands stand in ``COMMANDS``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, in the order of the table."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, imported now."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].reference.partition(":")
        try:
            command: click.Command = getattr(importlib.import_module(module), name)
        except ModuleNotFoundError as error:
            raise _missing(error, cmd_name) from error
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that ``args`` name; an unknown one gets a guess."""
        close = difflib.get_close_matches(args[0], COMMANDS, n=1)
        if args[0] not in COMMANDS and close and not args[0].startswith("-"):
            ctx.fail(f"No such command {args[0]!r}. Did you mean {close[0]!r}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing any."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a package that is missing in the middle of it names its extra too."""
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            raise _missing(error, ctx.invoked_subcommand or "") from error


def _missing(error: ModuleNotFoundError, command: str) -> Exception:
    """Return the absence of somebody else's package as the pip line that mends it; a module of ours as it is."""
    if command not in COMMANDS or (error.name or "").partition(".")[0] in OURS:
        return error
    return MissingExtraError(
        f"`edgepick {command}` needs the package {error.name!r}, which is not installed",
        hint=f"pip install 'edgepick[{COMMANDS[command].extra}]'",
    )


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="Configuration file of the host.")
@click.option("--verbose", is_flag=True, help="Show the trace of an error, and what the libraries log.")
@click.version_option(__version__, prog_name="edgepick")
@click.pass_context
def cli(context: click.Context, config: Path | None, verbose: bool) -> None:
    """One model, compressed for every kind of device, delivered over MQTT, measured there, rolled out if it wins.

    Exit codes: 0 done, 1 refused or failed, 2 usage or configuration, 3 unreachable, 4 verification failed.
    """
    logging.basicConfig(level=logging.DEBUG if verbose else logging.ERROR, format="%(name)s: %(message)s")
    context.obj = Globals(config=config, verbose=verbose)


def run(arguments: Sequence[str]) -> int:
    """Return the exit code of one command line: 0 done, 1 failed, 2 usage, 3 unreachable, 4 verification failed."""
    as_json = "--json" in arguments
    try:
        code = cli.main(list(arguments), prog_name="edgepick", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help() if error.ctx else "", err=True)
        return 2
    except click.UsageError as error:
        return _usage(error, as_json=as_json)
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the one place where every error ends
        if "--verbose" in arguments:
            traceback.print_exception(error)
        failure = explain(error)
        write_failure(failure, as_json=as_json)
        return failure.exit_code
    return code if isinstance(code, int) else 0


def _usage(error: click.UsageError, *, as_json: bool) -> int:
    if as_json:
        write_failure(explain(error), as_json=True)
    else:
        error.show(file=sys.stderr)
    return error.exit_code
