"""Options that several commands share, and the settings that they lead to."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from edgepick_host.config import read_settings
from edgepick_host.core.settings import HostSettings, parse_duration

Command = TypeVar("Command", bound=Callable[..., Any])

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
broker = click.option("--broker", metavar="URL", help="mqtt://[user@]host[:port], or mqtts:// for TLS.")
database = click.option("--database", metavar="FILE", help="The host's database: a file, or a database URL.")
fleet = click.option("--fleet", metavar="NAME", help="The fleet.")
profile_dirs = click.option(
    "--profiles",
    "profile_dirs",
    metavar="DIR",
    multiple=True,
    help="A directory of your own profiles; may be given several times.",
)
key_folder = click.option("--keys", "key_folder", metavar="DIR", help="Folder with the keys and the root document.")

FLAGS = {
    "broker": "broker.url",
    "database": "database",
    "fleet": "fleet",
    "profile_dirs": "profiles",
    "key_folder": "keys",
    "keep_reports": "keep_reports",
}
"""Parameter of a command -> the key of the settings that it sets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Globals:
    """What stands before the subcommand."""

    config: Path | None = None
    verbose: bool = False


def duration(_context: click.Context, _parameter: click.Parameter, value: str) -> float:
    """Return ``90s``, ``10m``, ``1h``, ``30d`` or plain seconds as seconds."""
    try:
        return parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def host_options(command: Command) -> Command:
    """Return ``command`` with every option of :data:`FLAGS` that says where the host's things are."""
    for option in (key_folder, fleet, database, broker):
        command = option(command)
    return command


def settings_of(context: click.Context, **flags: Any) -> HostSettings:
    """Return the settings: default < file < environment < these flags (parameters named in :data:`FLAGS`).

    Raises:
        ConfigError: One line per problem.
    """
    known = context.find_object(Globals) or Globals()
    values = {FLAGS[name]: list(v) if isinstance(v, tuple) else v for name, v in flags.items() if name in FLAGS}
    return read_settings(known.config, flags=values)
