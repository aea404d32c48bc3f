"""``edgepick-agent pin [VARIANT]`` and ``unpin [MODEL]``: the host's wishes off, and on again."""

from collections.abc import Iterator
from pathlib import Path

import click

from edgepick_agent.cli import site
from edgepick_agent.cli.bundle import asked, named, show_change, variant_words
from edgepick_agent.cli.completing import model_names, variant_names
from edgepick_agent.cli.options import (
    config_option,
    confirm,
    dry_run_option,
    json_option,
    settings_for_commands,
    yes_option,
)
from edgepick_agent.cli.render import as_json_text
from edgepick_agent.core.control import AgentStatus, Command, ControlRequest
from edgepick_agent.errors import AgentError
from edgepick_wire.messages import ModelState

PREFIX = 4
"""Least digits of a digest that name a variant."""


@click.command()
@click.argument("variant", required=False, shell_complete=variant_names)
@click.option("--model", shell_complete=model_names, help="Which model.  [default: the one that has the variant]")
@config_option
@yes_option
@dry_run_option
@json_option
def pin(*, variant: str | None, model: str | None, config_file: Path, yes: bool, dry_run: bool, as_json: bool) -> None:
    """Stay on VARIANT until it is unpinned, whatever the host wants.

    VARIANT is what runs if it is left out; else a label, the first digits of a digest, "active" or
    "previous", of what is installed. The previous one is activated first. Measuring goes on.
    """
    settings = settings_for_commands(config_file)
    before = site.status(settings)
    state, digest = chosen(before, variant, model)
    click.echo(f"{state.model}: {variant_words(state.active_label, state.active)}", err=as_json)
    if digest == state.active:
        click.echo("     -> stays, whatever the host wants", err=as_json)
    else:
        click.echo(f"     -> {variant_words(state.previous_label, state.previous)}, and stay there", err=as_json)
    if dry_run:
        show_change(state.model, state.active, digest, as_json=as_json)
        return
    if digest != state.active:
        confirm("Go back to it and pin it?", yes=yes)
    after = asked(settings, ControlRequest(command=Command.PIN, model=state.model, manifest=digest))
    _show(after, state.model, as_json=as_json)


@click.command()
@click.argument("model", required=False, shell_complete=model_names)
@config_option
@dry_run_option
@json_option
def unpin(*, model: str | None, config_file: Path, dry_run: bool, as_json: bool) -> None:
    """Let the host's wish count again for MODEL; it is followed at once."""
    settings = settings_for_commands(config_file)
    state = named(site.status(settings), model)
    if not state.pinned:
        click.echo(f"{state.model} is not pinned; nothing to do", err=as_json)
    if dry_run:
        click.echo(f"{state.model}: what the host wants is followed again, at once", err=as_json)
        show_change(state.model, state.active, None, as_json=as_json)
        return
    after = asked(settings, ControlRequest(command=Command.UNPIN, model=state.model))
    _show(after, state.model, as_json=as_json)


def chosen(status: AgentStatus, variant: str | None, model: str | None) -> tuple[ModelState, str]:
    """Return the model that is meant and the digest of its variant.

    Raises:
        AgentError: Unknown or ambiguous; the hint names what is installed.
    """
    states = status.models if model is None and variant is not None else (named(status, model),)
    found = {(s.model, digest): s for s in states for digest, names in _names(s) if _meant(variant, digest, names)}
    if len(found) == 1:
        ((_, digest), state) = next(iter(found.items()))
        return state, digest
    said = f"variant {variant!r}" if variant else f"a variant of {states[0].model}"
    problem = f"{said} is meant by several models; add --model" if found else f"{said} is not installed"
    raise AgentError(problem, hint=f"Installed: {', '.join(_installed(status)) or 'nothing'}")


def _names(state: ModelState) -> Iterator[tuple[str, tuple[str, ...]]]:
    if state.active:
        yield state.active, ("active", *_labels(state.model, state.active_label))
    if state.previous:
        yield state.previous, ("previous", *_labels(state.model, state.previous_label))


def _labels(model: str, label: str | None) -> tuple[str, ...]:
    """Return a label as it is shown, and without the model that it begins with."""
    return (label, label.removeprefix(f"{model} ")) if label else ("?",)


def _meant(variant: str | None, digest: str, names: tuple[str, ...]) -> bool:
    if variant is None:
        return "active" in names
    return variant in names or (len(variant) >= PREFIX and digest.startswith(variant))


def _installed(status: AgentStatus) -> Iterator[str]:
    for state in status.models:
        for digest, (which, label, *_) in _names(state):
            yield f"{variant_words(label, digest)}, {which}"


def _show(status: AgentStatus, model: str, *, as_json: bool) -> None:
    if as_json:
        click.echo(as_json_text(status))
        return
    state = named(status, model)
    runs = variant_words(state.active_label, state.active)
    if model in status.held:
        click.echo(f"{model}: pinned to {runs}; to follow the host again: edgepick-agent unpin {model}")
    else:
        click.echo(f"{model}: follows the host, active {runs}")
