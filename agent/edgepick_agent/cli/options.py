"""Options that several commands share."""

import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from edgepick_agent.config import load_settings
from edgepick_agent.core.settings import DEFAULT_CONFIG, AgentSettings
from edgepick_wire.errors import BadNameError
from edgepick_wire.ids import check_name

F = TypeVar("F", bound=Callable[..., Any])


def config_option(function: F) -> F:
    """Add ``--config FILE``."""
    return click.option(
        "--config",
        "-c",
        "config_file",
        type=click.Path(path_type=Path, dir_okay=False),
        default=DEFAULT_CONFIG,
        envvar="EDGEPICK_AGENT_CONFIG",
        show_default=True,
        show_envvar=True,
        help="The device's configuration.",
    )(function)


def json_option(function: F) -> F:
    """Add ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(function)


def yes_option(function: F) -> F:
    """Add ``--yes``."""
    return click.option("--yes", "-y", is_flag=True, help="Do not ask.")(function)


def dry_run_option(function: F) -> F:
    """Add ``--dry-run``."""
    return click.option("--dry-run", is_flag=True, help="Only show what would be done.")(function)


def sysfs_option(function: F) -> F:
    """Add ``--sysfs-root DIR``, for recorded trees of boards."""
    return click.option(
        "--sysfs-root",
        type=click.Path(path_type=Path, file_okay=False, exists=True),
        default="/",
        hidden=True,
        help="Read /sys and /proc/device-tree below this folder.",
    )(function)


def checked_name(_ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Return a name of the protocol; one out of its alphabet is a usage error."""
    try:
        return value if value is None else check_name(param.name or "", value)
    except BadNameError as error:
        raise click.BadParameter(str(error)) from error


class FiniteRange(click.FloatRange):
    """A finite number within a range; click alone takes nan for within any, as it is not outside."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number; anything else is a usage error."""
        found = super().convert(value, param, ctx)
        if not math.isfinite(found):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return found


def settings_for_commands(path: Path) -> AgentSettings:
    """Return the settings for a command that needs none of the files that they name.

    Raises:
        ConfigError: Lists every problem.
    """
    return load_settings(path, os.environ, files=False)


def confirm(question: str, *, yes: bool) -> None:
    """Return if the person agrees; without a terminal to ask on, ``--yes`` is needed.

    Raises:
        UsageError: Nobody can be asked.
        Abort: The person said no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("Nobody can be asked here; add --yes to do it.")
    click.confirm(question, abort=True)
