"""What an operator does with rollouts: prepare, preview, start, ask. Works on the store alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from edgepick_host.core import rollout as core
from edgepick_host.core.arms import prospects
from edgepick_host.core.checks import figure_of, parse_checks
from edgepick_host.core.decision import Decision
from edgepick_host.core.explanation import Explanation, explain
from edgepick_host.core.measured import condensed
from edgepick_host.core.records import Release
from edgepick_host.core.rollout_state import RequestKind, RolloutState, Stage
from edgepick_host.core.selector import facts_of, parse_query
from edgepick_host.core.waves import Lane, Plan
from edgepick_host.core.windows import parse_window
from edgepick_host.errors import ConfigError, StateError
from edgepick_host.ports import Store
from edgepick_host.service import reactions
from edgepick_host.service.reactions import BudgetsOf, Knowledge
from edgepick_host.service.requests import Request, file_request, find_rollout, save_rollout, unfinished
from edgepick_wire import codec
from edgepick_wire.errors import WireError


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedWave:
    """One wave of one stratum; 0 is the canary."""

    stratum: str
    wave: int
    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What a rollout would do, by what the store knows now.

    Attributes:
        model: The model.
        plan: How it would proceed.
        variants: The candidates, "version variant".
        waiting_for: Who would still have to measure what.
        lanes: What would be decided now, and who would be in which wave.
        outlooks: What each stratum could prove, given the noise that an A/A run has told.
        waves: Who would be in which wave.
        opens: When the maintenance window opens, in words; empty while it is open.
        conflict: Why it could not be started now.
    """

    model: str
    plan: Plan
    variants: tuple[str, ...]
    waiting_for: tuple[str, ...]
    lanes: tuple[Lane, ...]
    outlooks: tuple[str, ...] = ()
    waves: tuple[PlannedWave, ...] = ()
    opens: str = ""
    conflict: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """An experiment as it stands.

    Attributes:
        waiting_for: Who still has to measure what.
        decisions: What would be decided now, per stratum; nothing of it is kept.
    """

    waiting_for: tuple[str, ...]
    decisions: tuple[Decision, ...]


def standing(store: Store, state: RolloutState, budgets_of: BudgetsOf) -> Standing:
    """Return how a rollout's experiment stands, by what the store knows now."""
    known = knowledge(store, state.model)
    return Standing(
        waiting_for=reactions.outstanding(state, known),
        decisions=tuple(ruling.decision for ruling in reactions.rule(state, known, budgets_of)),
    )


def knowledge(store: Store, model: str) -> Knowledge:
    """Return what the store knows about a model."""
    return Knowledge(
        releases=tuple(store.releases(model)),
        devices=tuple(store.devices()),
        reports=tuple(condensed(store.each_report(model=model))),
    )


def checked_plan(store: Store, model: str, plan: Plan) -> Plan:
    """Return the plan with its version filled in: the newest published, if none was named.

    Raises:
        StateError: Nothing of this model, version, profile or variant was published, or no device would accept it.
        ConfigError: It holds what no document can.
    """
    check_readable(plan)
    releases = store.releases(model)
    if not releases:
        models = ", ".join(sorted({r.model for r in store.releases()})) or "none"
        raise StateError(
            f"no variant of model {model!r} was ever published; published are: {models}",
            hint="`edgepick publish DIR` publishes the variants of `edgepick compress`.",
        )
    plan = replace(plan, version=plan.version or releases[-1].version)
    of_version = _of("version", model, plan.version, releases, [r for r in releases if r.version == plan.version])
    for profile in plan.profiles:
        _of("profile", model, profile, of_version, [r for r in of_version if profile in r.profiles])
    if plan.variant is not None:
        _of("variant", model, plan.variant, of_version, [r for r in of_version if r.variant == plan.variant])
    _check_checks(store, model, plan)
    _check_epoch(store, plan, [r for r in of_version if plan.variant in (None, r.variant)], releases)
    return plan


def check_readable(plan: Plan) -> None:
    """Refuse a plan that could be stored and never read again, by anybody: a number or a text beyond all limits.

    Raises:
        ConfigError: It is one; the text names the field.
    """
    try:
        codec.decode_document(Plan, codec.encode_document(plan))
    except WireError as error:
        raise ConfigError(str(error), hint="docs/rollout.md says what is allowed.") from error


def _check_epoch(store: Store, plan: Plan, chosen: Sequence[Release], published: Sequence[Release]) -> None:
    """Refuse a version that every device would refuse, because all of them have confirmed a higher security epoch."""
    epoch = max(r.security_epoch for r in chosen)
    if epoch >= max(r.security_epoch for r in published):
        return  # no device has confirmed more than was ever published
    profiles = {p for r in chosen for p in r.profiles if not plan.profiles or p in plan.profiles}
    query = parse_query(plan.only)
    asked = (d for d in store.devices() if d.birth is not None and d.birth.profile in profiles)
    least = [d.reported.security_epoch for d in asked if d.reported is not None and query.matches(facts_of(d))]
    if least and epoch < min(least):
        raise StateError(
            f"version {plan.version} has security epoch {epoch}; each of {len(least)} device(s) accepts {min(least)} "
            "or more, so all of them would refuse it",
            hint=f"It was withdrawn. If it has to run again: edgepick publish DIR --epoch {min(least)} --version NEW.",
        )


def _check_checks(store: Store, model: str, plan: Plan) -> None:
    """Refuse checks of figures that no device of the fleet has ever reported, once any has reported anything."""
    figures = {check.figure for check in parse_checks(plan.checks)}
    reports = store.reports(model=model) if figures else ()
    measured = [m for r in reports if r.measurement is not None and (m := r.measurement.measurement) is not None]
    never = sorted(f for f in figures if all(figure_of(f, m) is None for m in measured))
    if measured and never:
        raise StateError(
            f"no device has ever reported {', '.join(never)} of {model!r}, so a check of it would fail everywhere",
            hint="`edgepick devices show ID` lists a device's sensors; leave the check out.",
        )


def _of(what: str, model: str, name: str, among: Sequence[Release], found: list[Release]) -> list[Release]:
    if found:
        return found
    known = {
        "version": {r.version for r in among},
        "profile": {p for r in among for p in r.profiles},
        "variant": {r.variant for r in among},
    }[what]
    raise StateError(
        f"model {model!r} has no {what} {name!r}; it has: {', '.join(sorted(known))}",
        hint=f"Name one of these with --{what}.",
    )


def preview(store: Store, model: str, plan: Plan, *, rollout: str, now: float, budgets_of: BudgetsOf) -> Preview:
    """Return what a rollout of this plan would do now; nothing is changed."""
    known = knowledge(store, model)
    state = core.begin(rollout, model, plan, now=now)
    rulings = reactions.rule(state, known, budgets_of)
    releases = [r for r in known.releases if r.version == plan.version]
    return Preview(
        model=model,
        plan=plan,
        variants=tuple(f"{r.version} {r.variant}" for r in releases if plan.variant in (None, r.variant)),
        waiting_for=() if plan.variant else reactions.outstanding(state, known),
        lanes=tuple(r.lane for r in rulings),
        outlooks=(*reactions.outlooks(state, known, budgets_of), *prospects(plan, tuple(r.lane for r in rulings))),
        waves=tuple(wave for r in rulings for wave in _planned(r.lane)),
        opens=_opens(plan, now),
        conflict=_conflict(unfinished(store, model)),
    )


def _planned(lane: Lane) -> Iterator[PlannedWave]:
    devices: dict[int, list[str]] = {}
    for member in lane.members:
        devices.setdefault(member.wave, []).append(member.device)
    for wave, names in sorted(devices.items()):
        yield PlannedWave(stratum=lane.label, wave=wave, devices=tuple(names))


def _opens(plan: Plan, now: float) -> str:
    window = parse_window(plan.window) if plan.window else None
    opens = window.opens(now) if window else None
    return window.text(opens) if window and opens is not None else ""


def _conflict(running: Sequence[RolloutState]) -> str:
    """Return why another rollout cannot be started now; nothing if it can."""
    return f"rollout {running[0].id} is {running[0].stage}; only one of a model at a time" if running else ""


def explained(store: Store, state: RolloutState, *, now: float) -> Explanation:
    """Return what a rollout waits for and what would stop it."""
    waiting = state.stage is Stage.MEASURING and state.deadline is not None
    missing = reactions.outstanding(state, knowledge(store, state.model)) if waiting else ()
    return explain(state, now=now, measuring=missing)


def start(
    store: Store, model: str, plan: Plan, *, rollout: str, now: float, replace_running: bool = False
) -> RolloutState:
    """Return the new rollout, stored for the coordinator to find.

    One that replaces another begins when that has returned its devices, so that no device is left on what nobody
    watches any more.

    Raises:
        StateError: Another rollout of the model has not ended, and is not to be replaced.
    """
    running = unfinished(store, model)
    if running and not replace_running:
        raise StateError(
            f"rollout {running[0].id} of {model} is {running[0].stage}; only one at a time",
            hint=f"Wait for it, end it (edgepick rollout abort {running[0].id}), or replace it with --replace.",
        )
    after = running[-1].id if running else ""
    seen = store.report_count(model=model)
    state = core.begin(rollout, model, plan, now=now, reports_seen=seen, after=after)
    with store.batch():
        for other in running:
            file_request(store, other.id, Request(id=f"replaced-by-{rollout}", kind=RequestKind.ABORT))
        save_rollout(store, state)
    return state


def ask(store: Store, rollout: str, kind: RequestKind, *, request: str) -> RolloutState:
    """Return the rollout that was asked; the coordinator will find the request.

    Raises:
        StateError: There is no such rollout, it has ended, or it was asked to abort, after which there is nothing to
            pause or resume.
    """
    state = find_rollout(store, rollout)
    if state.stage.terminal:
        raise StateError(
            f"rollout {state.id} is {state.stage} and cannot be asked to {kind}",
            hint="A new rollout starts with: edgepick rollout start MODEL",
        )
    if not file_request(store, state.id, Request(id=request, kind=kind)):
        raise StateError(
            f"rollout {state.id} was asked to abort and cannot be asked to {kind}",
            hint="Its devices return. A new rollout starts with: edgepick rollout start MODEL",
        )
    return state
