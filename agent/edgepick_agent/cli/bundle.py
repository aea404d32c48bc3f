"""``edgepick-agent install FILE`` and ``edgepick-agent rollback [MODEL]``: shown first, then done."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import click

from edgepick_agent.cli import site
from edgepick_agent.cli.completing import model_names
from edgepick_agent.cli.options import (
    config_option,
    confirm,
    dry_run_option,
    json_option,
    settings_for_commands,
    yes_option,
)
from edgepick_agent.cli.render import as_json_text, pairs, short, size
from edgepick_agent.cli.status import phase_words
from edgepick_agent.core.control import AgentStatus, Command, ControlReply, ControlRequest
from edgepick_agent.core.settings import AgentSettings
from edgepick_agent.errors import AgentError, RefusedError
from edgepick_wire.manifest import Manifest
from edgepick_wire.messages import ModelState, Phase

NOTHING_DONE = "nothing was done; without --dry-run it is"
WAIT_SECONDS = 300.0
START_SECONDS = 60.0
LOOK_SECONDS = 0.5
UNDER_WAY = frozenset({Phase.EMPTY, Phase.FETCHING, Phase.TRIAL, Phase.CONFIRMING})


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@config_option
@yes_option
@dry_run_option
@json_option
def install(*, file: Path, config_file: Path, yes: bool, dry_run: bool, as_json: bool) -> None:
    """Install a bundle FILE; it is verified, tried and confirmed just as one from the network."""
    settings = settings_for_commands(config_file)
    manifest, digest = site.read_bundle(file, settings)
    before = site.status(settings)
    click.echo(pairs(plan_of(manifest, digest, before)), err=as_json)
    if already(before, digest):
        click.echo("it is active already; nothing to do", err=as_json)
        _show(before, manifest.model, as_json=as_json)
        return
    if dry_run:
        current = _state(before, manifest.model)
        show_change(manifest.model, current.active if current else None, digest, as_json=as_json)
        return
    confirm("Install it?", yes=yes)
    request = ControlRequest(command=Command.INSTALL, path=str(file.absolute()))
    with file.open("rb") as opened:  # the agent may not reach what lies in a home directory, or on a stick of ours
        status = asked(settings, request, opened)
    _show(_wait(settings, status, digest), manifest.model, as_json=as_json)


@click.command()
@click.argument("model", required=False, shell_complete=model_names)
@config_option
@yes_option
@dry_run_option
@json_option
def rollback(*, model: str | None, config_file: Path, yes: bool, dry_run: bool, as_json: bool) -> None:
    """Return MODEL to its previous variant; it stays so until the host wants another one."""
    settings = settings_for_commands(config_file)
    chosen = which(site.status(settings), model)
    click.echo(f"{chosen.model}: {variant_words(chosen.active_label, chosen.active)}", err=as_json)
    click.echo(f"     -> {variant_words(chosen.previous_label, chosen.previous)}", err=as_json)
    if dry_run:
        show_change(chosen.model, chosen.active, chosen.previous, as_json=as_json)
        return
    confirm("Roll back?", yes=yes)
    status = asked(settings, ControlRequest(command=Command.ROLLBACK, model=chosen.model))
    _show(status, chosen.model, as_json=as_json)


def show_change(model: str, before: str | None, after: str | None, *, as_json: bool) -> None:
    """Say which variant would give way to which; a person has read the same in words before."""
    click.echo(as_json_text({"would": {"model": model, "from": before, "to": after}}) if as_json else NOTHING_DONE)


def plan_of(manifest: Manifest, digest: str, status: AgentStatus) -> Iterator[tuple[str, str]]:
    """Yield what an installation would do."""
    current = _state(status, manifest.model)
    yield "model", manifest.model
    yield "version", f"{manifest.version}   variant {manifest.variant}   ({short(digest)})"
    yield "size", size(manifest.size)
    yield "for", ", ".join(manifest.profiles)
    yield "epoch", f"{manifest.security_epoch} (this device accepts {status.security_epoch} and above)"
    yield "replaces", variant_words(current.active_label, current.active) if current and current.active else "nothing"
    yield "signature", "valid"


def which(status: AgentStatus, model: str | None) -> ModelState:
    """Return the model to roll back.

    Raises:
        AgentError: Unknown, ambiguous, or without a previous variant.
    """
    chosen = named(status, model)
    if chosen.previous is None:
        raise AgentError(
            f"{chosen.model} has no previous variant", hint="Install one from a file: edgepick-agent install FILE"
        )
    return chosen


def named(status: AgentStatus, model: str | None) -> ModelState:
    """Return the model that is meant; it need not be named where there is one.

    Raises:
        AgentError: Unknown or ambiguous.
    """
    names = [state.model for state in status.models]
    if model is None and len(names) != 1:
        raise AgentError(
            f"{len(names)} models are on this device" if names else "no model is on this device",
            hint=f"Name one: {', '.join(names)}" if names else "edgepick-agent status",
        )
    chosen = _state(status, model or names[0])
    if chosen is None:
        raise AgentError(f"there is no model {model!r}", hint=f"On this device: {', '.join(names) or 'none'}")
    return chosen


def already(status: AgentStatus, digest: str) -> bool:
    """Return whether this variant is active, and not only on trial."""
    return any(state.active == digest and state.phase is not Phase.CONFIRMING for state in status.models)


def asked(settings: AgentSettings, request: ControlRequest, file: BinaryIO | None = None) -> AgentStatus:
    """Return the status after a request that was carried out.

    Raises:
        RefusedError: The device said no.
        AgentError: It failed.
    """
    reply = _answer(settings, request, file)
    if reply.refusal is not None:
        raise RefusedError(reply.refusal)
    if not reply.ok:
        raise AgentError(reply.error or "the agent could not do it", hint=reply.hint or "edgepick-agent status")
    return reply.status or site.status(settings)


def _answer(settings: AgentSettings, request: ControlRequest, file: BinaryIO | None) -> ControlReply:
    """Return the agent's answer, waiting for one that is still starting."""
    deadline = time.monotonic() + START_SECONDS
    while (reply := site.request(settings, request, file)).starting and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
    return reply


def _wait(settings: AgentSettings, status: AgentStatus, digest: str) -> AgentStatus:
    """Return the status once the installation has ended.

    Raises:
        RefusedError: The variant was refused, or failed its trial.
        AgentError: It takes too long.
    """
    deadline = time.monotonic() + WAIT_SECONDS
    while status.running and (state := _wanting(status, digest)) and state.phase in UNDER_WAY:
        if time.monotonic() > deadline:
            raise AgentError(f"{state.model}: still {state.phase.value}", hint="Watch it with: edgepick-agent status")
        time.sleep(LOOK_SECONDS)
        status = site.status(settings)
    ended = _wanting(status, digest)
    # What the host wants instead is refused as long as this variant is pinned; that is no failure of this one.
    if ended and ended.active != digest and ended.refusal:
        raise RefusedError(ended.refusal)
    return status


def _wanting(status: AgentStatus, digest: str) -> ModelState | None:
    return next((s for s in status.models if digest in {s.wanted, s.active}), None)


def _state(status: AgentStatus, model: str) -> ModelState | None:
    return next((state for state in status.models if state.model == model), None)


def variant_words(label: str | None, digest: str | None) -> str:
    """Return a variant for people: its label and the first digits of its digest."""
    return f"{label or '?'} ({short(digest)})"


def _show(status: AgentStatus, model: str, *, as_json: bool) -> None:
    state = _state(status, model)
    if as_json:
        click.echo(as_json_text(status))
    elif state is not None:
        click.echo(f"{model}: {phase_words(state)}, active {variant_words(state.active_label, state.active)}")
