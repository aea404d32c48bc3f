"""``edgepick-agent config check|show``."""

import os
from pathlib import Path
from typing import Any

import click

from edgepick_agent.cli.options import config_option, json_option
from edgepick_agent.cli.render import as_json_text, table
from edgepick_agent.config import ENVIRONMENT, Loaded, Origin, Problem, describe, read_config, values_of
from edgepick_agent.errors import ConfigError


@click.group()
def config() -> None:
    """Check the configuration, or show each value's origin.

    A value comes from the environment (EDGEPICK_AGENT_BROKER_HOST and others: see config show
    --help), else from the file, else from the defaults. Relative paths are relative to the file.
    """


@config.command()
@config_option
@json_option
def check(*, config_file: Path, as_json: bool) -> None:
    """Say everything that is wrong with the configuration, at once."""
    loaded = read_config(config_file, os.environ)
    problems = loaded.problems + loaded.missing_files
    if as_json:
        click.echo(as_json_text(_check_document(loaded)))
        raise click.exceptions.Exit(2 if problems else 0)
    for warning in loaded.warnings:
        click.echo(f"warning: {config_file}: {warning}", err=True)
    if problems:
        raise ConfigError(describe(config_file, problems), hint="Mend these, then run the same command again.")
    click.echo(f"{config_file}: OK")


@config.command(epilog="Variables: " + ", ".join(ENVIRONMENT))
@config_option
@json_option
def show(*, config_file: Path, as_json: bool) -> None:
    """Print every value and whether it is a default, or from the file or the environment."""
    loaded = read_config(config_file, os.environ)
    if loaded.settings is None:
        raise ConfigError(describe(config_file, loaded.problems), hint="Mend these, then run the same command again.")
    values = values_of(loaded.settings)
    if as_json:
        click.echo(as_json_text({k: {"value": v, "origin": loaded.origins[k]} for k, v in values.items()}))
        return
    rows = [(key, _toml(value), _origin(key, loaded.origins[key])) for key, value in values.items()]
    click.echo(table(("key", "value", "from"), rows))


def _origin(key: str, origin: Origin) -> str:
    if origin is Origin.ENVIRONMENT:
        return next(name for name, k in ENVIRONMENT.items() if k == key)
    return origin.value


def _toml(value: Any) -> str:
    if value is None:
        return "-"
    return as_json_text(value, indent=None).replace("{}", "-").replace("[]", "-")


def _check_document(loaded: Loaded) -> dict[str, Any]:
    return {
        "path": str(loaded.path),
        "ok": not (loaded.problems or loaded.missing_files),
        "problems": _plain(loaded.problems + loaded.missing_files),
        "warnings": _plain(loaded.warnings),
    }


def _plain(problems: tuple[Problem, ...]) -> list[dict[str, str]]:
    return [{"key": problem.key, "text": problem.text} for problem in problems]
