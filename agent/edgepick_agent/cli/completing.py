"""Names of what is installed, for the TAB key: from the state directory, so that no agent is asked."""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

import click

from edgepick_agent.cli import site
from edgepick_agent.cli.options import settings_for_commands
from edgepick_agent.cli.render import short
from edgepick_agent.core.settings import DEFAULT_CONFIG
from edgepick_agent.core.state import ModelRecord
from edgepick_agent.errors import AgentError


def model_names(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the models on this device that begin so; none where that cannot be known."""
    return [name for name in _installed(context) if name.startswith(incomplete)]


def variant_names(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return what ``pin`` takes in one word: "active", "previous", and the beginnings of digests."""
    slots = (slot for record in _installed(context).values() for slot in (record.a, record.b) if slot is not None)
    return [name for name in ("active", "previous", *(short(s.manifest) for s in slots)) if name.startswith(incomplete)]


def _installed(context: click.Context) -> Mapping[str, ModelRecord]:
    path = context.params.get("config_file") or os.environ.get("EDGEPICK_AGENT_CONFIG") or DEFAULT_CONFIG
    with contextlib.suppress(AgentError, OSError):  # a shell that completes shows no errors
        return site.installed(settings_for_commands(Path(path)))
    return {}
