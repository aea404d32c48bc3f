"""``edgepick devices``: who is in the fleet."""

import threading
import time

import click
from rich.live import Live

from edgepick_host import app
from edgepick_host.cli import options, render
from edgepick_host.cli.enroll import enroll, expel
from edgepick_host.core.plausible import unusable
from edgepick_host.core.records import Device
from edgepick_host.core.roster import Roster
from edgepick_host.errors import StateError
from edgepick_wire.ids import check_name
from edgepick_wire.messages import ModelState, Report, ShadowedVariant

COLUMNS = ("device", "profile", "presence", "session", "agent", "models")
TICK_SECONDS = 0.1


@click.group()
def devices() -> None:
    """Who is in the fleet: from what the broker retains, also when no service runs."""


devices.add_command(enroll)
devices.add_command(expel)


@devices.command("list")
@options.host_options
@options.as_json
@click.pass_context
def list_command(context: click.Context, /, *, as_json: bool, **places: str | None) -> None:
    """List every device with its presence and what it runs."""
    settings = options.settings_of(context, **places)
    found = app.roster(settings)
    if as_json:
        render.print_json(found.devices())
    elif found.devices():
        render.print_table(COLUMNS, [_row(d) for d in found.devices()])
    else:
        click.echo(f"no device of fleet {found.fleet} has been heard at {settings.broker.place}")
    _warn(found)


@devices.command("show")
@click.argument("device", metavar="ID")
@options.host_options
@options.as_json
@click.pass_context
def show_command(context: click.Context, /, *, device: str, as_json: bool, **places: str | None) -> None:
    """Show everything that is known of one device."""
    settings = options.settings_of(context, **places)
    name = check_name("device", device)
    found = app.roster(settings)
    known = next((d for d in found.devices() if d.device == name), None)
    _warn(found)
    if known is None:
        raise StateError(
            f"never heard of device {name!r} in fleet {settings.fleet!r}", hint="`edgepick devices list` shows all."
        )
    if as_json:
        render.print_json(known)
    else:
        render.print_facts(_facts(known))


@devices.command("history")
@click.argument("device", metavar="ID")
@click.option("--last", type=click.IntRange(min=1), default=20, show_default=True, help="How many reports.")
@options.host_options
@options.as_json
@click.pass_context
def history_command(context: click.Context, /, *, device: str, last: int, as_json: bool, **places: str | None) -> None:
    """Show what a device has reported: installations, measurements and incidents, oldest first.

    The host service stores the reports; this reads them without a broker.
    """
    settings = options.settings_of(context, **places)
    found = app.history(settings, check_name("device", device))[-last:]
    if as_json:
        render.print_json(found)
    elif found:
        render.print_table(("device's clock", "report", "model", "what happened"), [_told(r) for r in found])
    else:
        click.echo(f"no report of device {device!r} is stored; `edgepick serve` stores them")


def _told(report: Report) -> tuple[str, str, str, str]:
    at = render.time_text(report.recorded_at)
    if report.install is not None:
        refusal = f": {report.install.refusal.detail}" if report.install.refusal else ""
        return at, "install", report.install.model, f"{report.install.outcome.value}{refusal}"
    if report.incident is not None:
        return (
            at,
            "incident",
            report.incident.model or render.NOTHING,
            f"{report.incident.code}: {report.incident.detail}",
        )
    if report.shadow is not None:
        return at, "shadow", report.shadow.model, _shadow_told(report.shadow)
    measured = report.measurement
    assert measured is not None
    what = render.digest_text(measured.manifest)
    if measured.refusal is not None:
        return at, "measurement", measured.model, f"{what}: {measured.refusal.detail}"
    assert measured.measurement is not None
    why = unusable(measured.measurement)
    return at, "measurement", measured.model, f"{what}: {f'not used: {why}' if why else measured.measurement.verdict}"


def _shadow_told(shadowed: ShadowedVariant) -> str:
    what = render.digest_text(shadowed.manifest)
    if shadowed.refusal is not None:
        return f"{what}: {shadowed.refusal.detail}"
    assert shadowed.summary is not None
    return f"{what}: {shadowed.summary.compared} answers compared{f' ({shadowed.detail})' if shadowed.detail else ''}"


@devices.command("watch")
@options.host_options
@click.option("--for", "seconds", type=click.FloatRange(min=0), metavar="SECONDS", help="End by itself. [Ctrl-C ends]")
@options.as_json
@click.pass_context
def watch_command(context: click.Context, /, *, seconds: float | None, as_json: bool, **places: str | None) -> None:
    """Show the fleet as it changes; with --json one line for every change."""
    settings = options.settings_of(context, **places)
    if as_json:
        with app.live_roster(settings, lambda found: render.print_json_line(found.devices())):
            _wait(seconds)
        return
    with Live(console=render.console(), auto_refresh=False) as live:

        def show(found: Roster) -> None:
            live.update(render.table(COLUMNS, [_row(d) for d in found.devices()]), refresh=True)

        with app.live_roster(settings, show):
            _wait(seconds)


def _wait(seconds: float | None) -> None:
    """Return when the time is over or a person presses Ctrl-C, which is how watching ends."""
    end = None if seconds is None else time.monotonic() + seconds
    idle = threading.Event()
    try:
        while end is None or time.monotonic() < end:
            idle.wait(TICK_SECONDS)
    except KeyboardInterrupt:
        return


def _warn(found: Roster) -> None:
    for topic, reason in sorted(found.unreadable.items()):
        click.echo(f"warning: {topic}: {reason}", err=True)


def _row(device: Device) -> tuple[str, ...]:
    birth = device.birth
    states = device.reported.models if device.reported else ()
    return (
        device.device,
        (birth.profile + (" (stand-in)" if birth.stand_in else "")) if birth else render.NOTHING,
        "online" if device.online else "offline",
        str(birth.session) if birth else render.NOTHING,
        birth.agent_version if birth else render.NOTHING,
        "; ".join(_state(s) for s in states) or render.NOTHING,
    )


def _state(state: ModelState) -> str:
    label = state.active_label or render.digest_text(state.active)
    progress = f" {state.chunks_done}/{state.chunks_total}" if state.chunks_total > state.chunks_done else ""
    refusal = f" ({state.refusal.code.value})" if state.refusal else ""
    return f"{state.model}: {label}, {state.phase.value}{progress}{refusal}{' pinned' if state.pinned else ''}"


def _facts(device: Device) -> list[tuple[str, str]]:
    facts = [("device", device.device), ("presence", "online" if device.online else "offline")]
    if device.last_seen is not None:
        when = render.time_text(device.last_seen)
        facts.append(("last heard by this host", when))
    return facts + _birth_facts(device) + _reported_facts(device)


def _birth_facts(device: Device) -> list[tuple[str, str]]:
    birth = device.birth
    if birth is None:
        return [("birth", "never heard")]
    return [
        ("profile", birth.profile),
        ("machine", f"{birth.machine}, {birth.system}" + (" (stand-in for the board)" if birth.stand_in else "")),
        ("agent", f"{birth.agent_version}, Python {birth.python}, session {birth.session}"),
        ("memory", render.size_text(birth.memory_bytes)),
        ("disk free", render.size_text(birth.disk_free_bytes)),
        *[(f"runtime {r.name}", f"{r.version} on {', '.join(r.accelerators)}") for r in birth.runtimes],
        ("sensors", ", ".join(birth.sensors) or render.NOTHING),
        ("knows", ", ".join(birth.capabilities) or render.NOTHING),
        *[(f"label {name}", value) for name, value in sorted(birth.labels.items())],
    ]


def _reported_facts(device: Device) -> list[tuple[str, str]]:
    reported = device.reported
    if reported is None:
        return [("reported", "nothing yet")]
    return [
        ("follows sequence", str(reported.sequence)),
        ("security epoch", str(reported.security_epoch)),
        *[line for state in reported.models for line in _model_facts(state)],
    ]


def _model_facts(state: ModelState) -> list[tuple[str, str]]:
    lines = [
        (f"model {state.model}", _state(state)),
        ("  active", state.active or render.NOTHING),
        ("  previous", state.previous or render.NOTHING),
        ("  wanted", state.wanted or render.NOTHING),
    ]
    if state.refusal:
        lines.append(("  refused", f"{state.refusal.detail} ({state.refusal.hint})"))
    return lines
