"""Rollouts in words and tables, for the terminal."""

from collections import defaultdict
from collections.abc import Sequence

import click

from edgepick_host.cli import render
from edgepick_host.core.arms import standing
from edgepick_host.core.explanation import NAMED, Explanation
from edgepick_host.core.rollout_state import RolloutState, Stage
from edgepick_host.core.schedule import CANARY
from edgepick_host.core.waves import Lane, Member, MemberStatus, count
from edgepick_host.service.campaigns import Preview

MOST_LISTED = 40
"""More devices than fill a screen are counted; who is among them is asked for."""
REASONS = 2
"""So many different ones are written out for devices that are counted together."""


def print_state(state: RolloutState, *, as_json: bool, everyone: bool = False) -> None:
    """Print where a rollout stands, what was decided, and its devices: many are counted, unless ``everyone``."""
    if as_json:
        render.print_json(state)
        return
    render.print_facts(_facts(state))
    if state.lanes:
        click.echo()
        render.print_table(("devices", "verdict", "variant", "confirmed", "why"), [_lane_row(x) for x in state.lanes])
    placed = [(lane, member) for lane in state.lanes if lane.winner for member in lane.members]
    if placed:
        click.echo()
        _print_members(placed, everyone=everyone or len(placed) <= MOST_LISTED)


def _print_members(placed: Sequence[tuple[Lane, Member]], *, everyone: bool) -> None:
    if everyone:
        render.print_table(("device", "profile", "wave", "status", "why"), [_member_row(*each) for each in placed])
        return
    alike: dict[tuple[str, int, str], list[Member]] = defaultdict(list)
    for lane, member in placed:
        alike[lane.label, member.wave, _status(member)].append(member)
    rows = [_group_row(*key, alike[key]) for key in sorted(alike)]
    render.print_table(("devices", "wave", "status", "number", "who", "why"), rows)
    click.echo("--devices lists each of them")


def _group_row(label: str, wave: int, status: str, members: Sequence[Member]) -> tuple[str, ...]:
    reasons = sorted({member.reason for member in members if member.reason})
    why = "; ".join(reasons[:REASONS]) + (f"; {len(reasons) - REASONS} more" if len(reasons) > REASONS else "")
    return (label, _wave_name(wave), status, str(len(members)), _some(tuple(m.device for m in members)), why)


def _facts(state: RolloutState) -> list[tuple[str, str]]:
    where = f"{state.stage}, wave {state.wave} of {state.waves}" if state.stage is Stage.WAVE else state.stage.value
    facts = [
        ("rollout", state.id),
        ("model", f"{state.model} {state.plan.version}"),
        ("state", where),
        ("started", render.time_text(state.started_at)),
    ]
    if compared := standing(state):
        facts.append(("compared", compared))
    return [*facts, ("because", state.reason)] if state.reason else facts


def _lane_row(lane: Lane) -> tuple[str, ...]:
    confirmed = count(lane.members, MemberStatus.CONFIRMED)
    verdict = lane.verdict.value + (" (held)" if lane.held else "")
    progress = f"{confirmed}/{len(lane.members)}" if lane.winner else render.NOTHING
    return (lane.label, verdict, lane.winner_label or render.NOTHING, progress, lane.held or lane.reason)


def _member_row(lane: Lane, member: Member) -> tuple[str, ...]:
    return (member.device, lane.profile, _wave_name(member.wave), _status(member), member.reason)


def _status(member: Member) -> str:
    return f"{member.status}, returned" if member.returned else member.status.value


def print_all(states: tuple[RolloutState, ...], *, as_json: bool) -> None:
    """Print rollouts, one line each."""
    if as_json:
        render.print_json(states)
        return
    rows = [(s.id, f"{s.model} {s.plan.version}", s.stage.value, s.reason) for s in states]
    render.print_table(("rollout", "model", "state", "because"), rows)


def print_preview(preview: Preview, *, as_json: bool) -> None:
    """Print what a rollout would do."""
    if as_json:
        render.print_json(preview)
        return
    plan = preview.plan
    waves = ", ".join(str(step) for step in plan.schedule)
    facts = [
        ("model", f"{preview.model} {plan.version}"),
        ("candidates", ", ".join(preview.variants)),
        ("objective", "none: chosen by the operator" if plan.variant else plan.objective),
        ("plan", f"canary of {plan.canary} per stratum, then {waves}; {plan.wave_seconds:g} s each"),
        ("waiting for", "; ".join(preview.waiting_for) or "nothing"),
    ]
    window = f"{plan.window}; {'opens ' + preview.opens if preview.opens else 'open now'}" if plan.window else ""
    named = [("only", plan.only), ("window", window), ("check", plan.checks), ("running already", preview.conflict)]
    render.print_facts([*facts, *(fact for fact in named if fact[1])])
    click.echo()
    rows = [
        (x.label, x.verdict.value, x.winner_label or render.NOTHING, str(len(x.members)), x.held or x.reason)
        for x in preview.lanes
    ]
    render.print_table(("devices", "verdict now", "variant", "number", "why"), rows)
    for line in preview.outlooks:
        click.echo(line)
    if preview.waves:
        click.echo()
        waves_of = [(w.stratum, _wave_name(w.wave), str(len(w.devices)), _some(w.devices)) for w in preview.waves]
        render.print_table(("stratum", "wave", "devices", "who"), waves_of)


def _wave_name(wave: int) -> str:
    return "canary" if wave == CANARY else str(wave)


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")


def print_explanation(found: Explanation, *, as_json: bool) -> None:
    """Print what each wave waits for, and what would stop it."""
    if as_json:
        render.print_json(found)
        return
    click.echo(f"{found.rollout}: {found.summary}")
    _print_lines("waits for", found.waits_for)
    _print_lines("compared", (found.compared,) if found.compared else ())
    for watch in found.watches:
        click.echo(f"  watches {watch.lane}, {watch.what}: {watch.e_value:.3g} of {watch.stops_at:g}; {watch.text}")
    for wave in found.waves:
        counts = ", ".join(f"{n} {status}" for status, n in wave.statuses.items()) or "nobody"
        click.echo(f"\n{wave.name} ({wave.turn}): {wave.devices} device(s): {counts}")
        _print_lines("waits for", wave.waits_for)
        _print_lines("stopped by", wave.stopped_by)


def _print_lines(what: str, lines: tuple[str, ...]) -> None:
    for line in lines:
        click.echo(f"  {what}: {line}")
