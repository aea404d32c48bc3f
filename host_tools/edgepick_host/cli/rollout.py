"""``edgepick rollout``: start, look at, pause, resume and abort rollouts."""

import sys
import time
from collections.abc import Callable
from typing import Any

import click

from edgepick_host import app
from edgepick_host.cli import options, render, rollout_plan, rollout_text
from edgepick_host.core.rollout_state import RequestKind, RolloutState, Stage
from edgepick_host.core.settings import HostSettings

LOOK_SECONDS = 0.5


@click.group()
def rollout() -> None:
    """Roll out what wins: a canary, then waves, each confirmed on the devices."""


@rollout.command("start")
@click.argument("model")
@options.host_options
@options.profile_dirs
@rollout_plan.options
@click.option("--replace", is_flag=True, help="Abort the one that runs; this one begins when its devices are back.")
@click.option("--wait/--no-wait", default=True, help="Follow it to its end. [wait]")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Show what would happen; change nothing.")
@options.as_json
@click.pass_context
def start_command(context: click.Context, /, *, model: str, wait: bool, yes: bool, **flags: Any) -> None:
    """Start a rollout of MODEL.

    The devices' own measurements decide, per kind of device, which variant it runs. Devices of a
    kind for which that cannot be decided stay as they are. When a canary fails, or too many devices
    of a wave, every device of the rollout returns to what it ran before.

    Without a host service (`edgepick serve`) this command does its work while it waits.
    docs/rollout.md explains waves, windows, checks and deadlines.
    """
    settings = options.settings_of(context, **flags)
    plan = rollout_plan.plan_of(flags)
    as_json = bool(flags["as_json"])
    if flags["dry_run"]:
        rollout_text.print_preview(app.preview_rollout(settings, model, plan), as_json=as_json)
        if app.coordinator_at_work(settings) is None:
            click.echo("note: no host service is at work; this is by what was heard while one was", err=True)
        return
    if not (yes or as_json) and sys.stdin.isatty():
        rollout_text.print_preview(app.preview_rollout(settings, model, plan), as_json=False)
        click.confirm("Start?", abort=True)
    state = app.start_rollout(settings, model, plan, replace_running=flags["replace"])
    if wait:
        state = _follow(settings, state.id, quiet=as_json)
    elif not as_json and app.coordinator_at_work(settings) is None:
        click.echo("note: no host service is at work; `edgepick serve` or `edgepick rollout status --watch`", err=True)
    rollout_text.print_state(state, as_json=as_json)
    context.exit(0 if not wait or state.stage is Stage.DONE else 1)


@rollout.command("status")
@click.argument("name", metavar="[ID]", required=False)
@options.host_options
@click.option("--watch", is_flag=True, help="Follow it to its end.")
@click.option("--devices", "everyone", is_flag=True, help="List each device, however many there are.")
@click.option("--all", "everything", is_flag=True, help="List every rollout.")
@options.as_json
@click.pass_context
def status_command(
    context: click.Context, /, *, name: str | None, watch: bool, everyone: bool, everything: bool, **flags: Any
) -> None:
    """Show a rollout: where it stands, what was decided, and its devices; without ID the newest."""
    settings = options.settings_of(context, **flags)
    as_json = bool(flags["as_json"])
    if everything:
        rollout_text.print_all(app.rollouts(settings), as_json=as_json)
        return
    state = app.rollout(settings, name)
    if watch and not state.settled:
        state = _watch(settings, state.id, quiet=as_json)
    rollout_text.print_state(state, as_json=as_json, everyone=everyone)


@rollout.command("explain")
@click.argument("name", metavar="[ID]", required=False)
@options.host_options
@options.as_json
@click.pass_context
def explain_command(context: click.Context, /, *, name: str | None, as_json: bool, **places: str | None) -> None:
    """Say for each wave what it waits for, and what would stop it; without ID of the newest rollout."""
    found = app.explain_rollout(options.settings_of(context, **places), name)
    rollout_text.print_explanation(found, as_json=as_json)


@rollout.command("pause")
@click.argument("name", metavar="ID")
@options.host_options
@options.as_json
@click.pass_context
def pause_command(context: click.Context, /, *, name: str, as_json: bool, **places: str | None) -> None:
    """Hold a rollout: no further device is touched; harm still sends devices back."""
    _ask(context, name, RequestKind.PAUSE, as_json=as_json, places=places)


@rollout.command("resume")
@click.argument("name", metavar="ID")
@options.host_options
@options.as_json
@click.pass_context
def resume_command(context: click.Context, /, *, name: str, as_json: bool, **places: str | None) -> None:
    """Go on with a paused rollout."""
    _ask(context, name, RequestKind.RESUME, as_json=as_json, places=places)


@rollout.command("abort")
@click.argument("name", metavar="ID")
@options.host_options
@options.as_json
@click.pass_context
def abort_command(context: click.Context, /, *, name: str, as_json: bool, **places: str | None) -> None:
    """End a rollout: every touched device returns to what it ran before."""
    _ask(context, name, RequestKind.ABORT, as_json=as_json, places=places)


def _ask(context: click.Context, name: str, kind: RequestKind, *, as_json: bool, places: dict[str, str | None]) -> None:
    settings = options.settings_of(context, **places)
    state = app.ask_rollout(settings, name, kind)
    if as_json:
        render.print_json(state)
        return
    click.echo(f"asked rollout {state.id} to {kind}")
    if app.coordinator_at_work(settings) is None:
        click.echo("note: no host service is at work; it will happen when `edgepick serve` runs", err=True)


def _follow(settings: HostSettings, name: str, *, quiet: bool) -> RolloutState:
    say = _nothing if quiet else _waiting_line
    return app.follow_rollout(settings, name, say=say, show=_nothing if quiet else _history_printer())


def _watch(settings: HostSettings, name: str, *, quiet: bool) -> RolloutState:
    """Return the rollout once it has ended, looking at the store only: watching never does the work."""
    show = _nothing if quiet else _history_printer()
    while not (state := app.rollout(settings, name)).settled:
        show(state)
        time.sleep(LOOK_SECONDS)
    show(state)
    return state


def _nothing(_: object) -> None:
    return


def _waiting_line(text: str) -> None:
    """Write what is not in the rollout's history: who is being waited for, and trouble."""
    if " waiting for " in text or not text.startswith("r-"):
        click.echo(f"         {text}", err=True)


def _history_printer() -> Callable[[RolloutState], None]:
    printed = 0

    def show(state: RolloutState) -> None:
        nonlocal printed
        for line in state.history[printed:]:
            click.echo(f"{time.strftime('%H:%M:%S', time.localtime(line.at))} {line.text}", err=True)
        printed = len(state.history)

    return show
