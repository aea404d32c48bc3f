"""``edgepick rollout``: start, look at, pause, resume and abort rollouts."""

import re
import sys
import time
from collections.abc import Callable
from typing import Any

import click

from edgepick_host import app
from edgepick_host.cli import options, render, rollout_text
from edgepick_host.core.experiment.between import Between
from edgepick_host.core.gates import Policy
from edgepick_host.core.objective import DEFAULT_OBJECTIVE, parse_objective
from edgepick_host.core.rollout_state import RequestKind, RolloutState, Stage
from edgepick_host.core.schedule import parse_waves
from edgepick_host.core.settings import HostSettings
from edgepick_host.core.waves import Leg, Plan
from edgepick_host.errors import ConfigError
from edgepick_wire.errors import MalformedError

LOOK_SECONDS = 0.5


def _share(_context: click.Context, _parameter: click.Parameter, value: str) -> float:
    """Return ``5%`` or ``0.05`` as a share."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(%?)", value)
    if match is None:
        raise click.BadParameter(f"{value!r} is not a share such as 5% or 0.05")
    return float(match[1]) / (100 if match[2] else 1)


def _optional_share(context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    return None if value is None else _share(context, parameter, value)


def _phases(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, float]:
    """Return ``fetch=30m`` and the like as seconds by phase."""
    found = {}
    for value in values:
        phase, _, limit = value.partition("=")
        if phase not in set(Leg):
            raise click.BadParameter(f"{value!r} is not PHASE=TIME; phases are {', '.join(Leg)}")
        found[phase] = options.duration(context, parameter, limit)
    return found


@click.group()
def rollout() -> None:
    """Roll out what wins: a canary, then waves, each confirmed on the devices."""


@rollout.command("start")
@click.argument("model")
@options.host_options
@options.profile_dirs
@click.option("--version", "version", default="", metavar="LABEL", help="Version to roll out. [the newest]")
@click.option("--profile", "kinds", metavar="NAME", multiple=True, help="Only this kind of device; repeatable.")
@click.option("--variant", metavar="NAME", help="Roll this one out, without selection.")
@click.option("--canary", type=click.IntRange(min=1), default=1, show_default=True, help="Devices per stratum first.")
@click.option(
    "--waves",
    default="25%,50%,100%",
    show_default=True,
    help="Each step a share (10%) or number (10) of every stratum's devices, a query (site=lab), or exponential:2.",
)
@click.option("--only", metavar="QUERY", default="", help="Only devices that match: 'site=lab and region in (eu, us)'.")
@click.option(
    "--objective",
    default=str(DEFAULT_OBJECTIVE),
    show_default=True,
    help="What is best; 'subject to accuracy >= 0.97 and p95 <= 20 ms' adds limits.",
)
@click.option(
    "--deadline",
    callback=options.duration,
    metavar="TIME",
    default="10m",
    show_default=True,
    help="For the canary and each wave.",
)
@click.option(
    "--phase-deadline",
    "phases",
    callback=_phases,
    metavar="PHASE=TIME",
    multiple=True,
    help=f"Longest stay of a device in one phase ({', '.join(Leg)}); repeatable.",
)
@click.option(
    "--check",
    "checks",
    metavar="LIMITS",
    default="",
    help="Measure again after installing: 'p95 <= +10% and memory <= 60 MiB'; +10% is over what ran there before.",
)
@click.option(
    "--window",
    metavar="TIMES",
    default="",
    help="Offer only then: 'mon-fri 01:00-05:00', UTC unless a zone follows ('... Europe/Berlin').",
)
@click.option(
    "--measure-deadline",
    callback=options.duration,
    metavar="TIME",
    default="10m",
    show_default=True,
    help="For measurements.",
)
@click.option(
    "--soak",
    callback=options.duration,
    metavar="TIME",
    default="5s",
    show_default=True,
    help="Stay healthy between waves.",
)
@click.option(
    "--max-failures",
    callback=_share,
    metavar="SHARE",
    default="10%",
    show_default=True,
    help="Of a stratum in one wave.",
)
@click.option(
    "--tolerated",
    callback=_share,
    metavar="SHARE",
    default="0.5%",
    show_default=True,
    help="Devices on which a healthy variant fails; more, shown over all waves, returns everything. 0%: no watch.",
)
@click.option(
    "--max-slower",
    callback=_share,
    metavar="SHARE",
    default="5%",
    show_default=True,
    help="Growth of a figure that --check measures again; more, shown over all waves, returns everything.",
)
@click.option(
    "--between",
    callback=_optional_share,
    metavar="SHARE",
    help="Compare this share of each stratum with as many that wait, by who fails first, before going on.",
)
@click.option(
    "--between-time",
    callback=options.duration,
    metavar="TIME",
    default="1h",
    show_default=True,
    help="For that comparison.",
)
@click.option(
    "--max-excess",
    callback=_share,
    metavar="SHARE",
    default="5%",
    show_default=True,
    help="It goes on if it is shown that at most so many more devices fail.",
)
@click.option(
    "--min-confirmed",
    callback=_share,
    metavar="SHARE",
    default="100%",
    show_default=True,
    help="Of a wave before the next; the rest has the deadline's time. Canary and last wave need all.",
)
@click.option("--min-devices", type=click.IntRange(min=1), default=1, show_default=True, help="That measured.")
@click.option(
    "--min-gain", callback=_share, metavar="SHARE", default="0%", show_default=True, help="Over the same version."
)
@click.option(
    "--alpha",
    callback=_share,
    metavar="SHARE",
    default="5%",
    show_default=True,
    help="Chance of any false gain, over all strata and variants.",
)
@click.option(
    "--max-accuracy-drop",
    callback=_share,
    metavar="SHARE",
    default="1%",
    show_default=True,
    help="Against the float model.",
)
@click.option(
    "--max-bytes",
    type=click.IntRange(min=0),
    metavar="N",
    help="What needs more over a device's link is refused there.",
)
@click.option("--replace", is_flag=True, help="Abort the one that runs; this one begins when its devices are back.")
@click.option("--wait/--no-wait", default=True, help="Follow it to its end. [wait]")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Show what would happen; change nothing.")
@options.as_json
@click.pass_context
def start_command(context: click.Context, /, *, model: str, wait: bool, yes: bool, **flags: Any) -> None:
    """Start a rollout of MODEL.

    The devices' own measurements decide, per kind of device, which variant it runs. Devices of a
    kind for which that cannot be decided stay as they are. When a device fails, every device of
    the rollout returns to what it ran before.

    Without a host service (`edgepick serve`) this command does its work while it waits.
    docs/rollout.md explains waves, windows, checks and deadlines.
    """
    settings = options.settings_of(context, **flags)
    plan = _plan(flags)
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
@click.option("--all", "everything", is_flag=True, help="List every rollout.")
@options.as_json
@click.pass_context
def status_command(
    context: click.Context, /, *, name: str | None, watch: bool, everything: bool, as_json: bool, **places: str | None
) -> None:
    """Show a rollout: where it stands, what was decided, and every device; without ID the newest."""
    settings = options.settings_of(context, **places)
    if everything:
        rollout_text.print_all(app.rollouts(settings), as_json=as_json)
        return
    state = app.rollout(settings, name)
    if watch and not state.settled:
        state = _watch(settings, state.id, quiet=as_json)
    rollout_text.print_state(state, as_json=as_json)


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


def _plan(flags: dict[str, Any]) -> Plan:
    try:
        return _unchecked_plan(flags)
    except MalformedError as error:
        raise ConfigError(str(error), hint="`edgepick rollout start --help` names what is allowed.") from error


def _unchecked_plan(flags: dict[str, Any]) -> Plan:
    parse_objective(flags["objective"])
    policy = Policy(
        min_devices=flags["min_devices"],
        max_accuracy_drop=flags["max_accuracy_drop"],
        min_gain=flags["min_gain"],
        alpha=flags["alpha"],
    )
    return Plan(
        version=flags["version"],
        variant=flags["variant"],
        profiles=flags["kinds"],
        canary=flags["canary"],
        steps=parse_waves(flags["waves"]),
        only=flags["only"],
        window=flags["window"],
        checks=flags["checks"],
        phase_seconds=flags["phases"],
        min_confirmed=flags["min_confirmed"],
        max_failures=flags["max_failures"],
        tolerated=flags["tolerated"],
        max_slower=flags["max_slower"],
        between=_between(flags),
        wave_seconds=flags["deadline"],
        soak_seconds=flags["soak"],
        measure_seconds=flags["measure_deadline"],
        objective=flags["objective"],
        policy=policy,
        max_bytes=flags["max_bytes"],
    )


def _between(flags: dict[str, Any]) -> Between | None:
    if flags["between"] is None:
        return None
    return Between(share=flags["between"], seconds=flags["between_time"], max_excess=flags["max_excess"])


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
