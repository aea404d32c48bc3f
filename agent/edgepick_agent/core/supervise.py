"""When a runner is started, restarted or given up: counting failures, waiting longer each time.

``observe`` is called for every look at a runner, and while there is none. It decides; the caller
starts and stops processes and reports incidents. Looks come as plain values, so that this stays
below the ports.
"""

import dataclasses
from dataclasses import dataclass

from edgepick_agent.core.settings import RunnerSettings
from edgepick_wire.enums import StrEnum
from edgepick_wire.messages import IncidentCode

JITTER_SHARE = 0.25
"""Jitter lengthens a pause by up to a quarter, so that devices do not restart in step."""

MOST_DOUBLINGS = 60
"""Beyond it every pause is the longest one anyway."""


class SuperviseKind(StrEnum):
    """What the caller should do about a runner."""

    NONE = "none"
    START = "start"
    """Start a process now."""
    KILL_AND_RESTART = "kill-and-restart"
    """Stop the process, if it is not gone already; START follows when the pause is over."""
    FALL_BACK = "fall-back"
    """Stop the process and do not start this variant again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorState:
    """One variant's runner over time.

    Attributes:
        failures: Failures in a row.
        put_off: Starts in a row that failed by no fault of the variant.
        again: It was started after a failure, and nothing was seen of it yet.
        next_start: Monotonic time of the next start; ``None`` before the first and while one runs.
        started_at: When the present process was started; ``None`` while there is none.
        ready_since: Since when it has been ready without a break.
        gave_up: It has failed too often.
        doubted: It failed by its answers, so that time alone forgives nothing: a good answer must come too.
    """

    failures: int = 0
    put_off: int = 0
    again: bool = False
    next_start: float | None = None
    started_at: float | None = None
    ready_since: float | None = None
    gave_up: bool = False
    doubted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A runner as it was seen: the value of ``ports.RunnerState``, exit code, a sentence, and if it answered well."""

    state: str
    exit_code: int | None = None
    detail: str = ""
    any_good: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SuperviseAction:
    """What to do, and what to report about it.

    Attributes:
        incident: To be reported, with ``detail`` and ``count`` (failures in a row).
    """

    kind: SuperviseKind
    incident: IncidentCode | None = None
    detail: str = ""
    count: int = 1


BAD_ANSWERS = "bad-answers"
FAILURES = {
    "exited": IncidentCode.RUNNER_CRASHED,
    "hung": IncidentCode.RUNNER_HUNG,
    "over-memory": IncidentCode.RUNNER_OVER_MEMORY,
    BAD_ANSWERS: IncidentCode.RUNNER_BAD_ANSWERS,
}
"""State of a runner -> the incident that it is; every other state is none."""

NOTHING = SuperviseAction(kind=SuperviseKind.NONE)


def observe(
    state: SupervisorState,
    look: Look | None,
    now: float,
    settings: RunnerSettings,
    *,
    jitter: float = 0.0,
    can_fall_back: bool = True,
) -> tuple[SupervisorState, SuperviseAction]:
    """Return the state after a look at the runner and what to do.

    Args:
        state: What this function returned last, or a new one.
        look: What was seen; ``None`` while there is no process.
        now: Monotonic seconds.
        settings: Limits of failures, pauses and the healthy time.
        jitter: 0 to 1, drawn by the caller; lengthens the pause after a failure.
        can_fall_back: There is another variant. Without one, the restarts go on, at the longest pause.
    """
    if look is None:
        return _without_process(state, now)
    if look.state in FAILURES:
        return _failed(state, look, now, settings, jitter, can_fall_back=can_fall_back)
    return _running(state, look, now, settings), _begun_again(state) if state.again else NOTHING


def put_off(state: SupervisorState, now: float, settings: RunnerSettings, *, jitter: float = 0.0) -> SupervisorState:
    """Return the state after a start that failed by no fault of the variant: it is tried again, and not blamed."""
    put_off = state.put_off + 1
    pause = backoff_seconds(state.failures + put_off, settings, jitter)
    return dataclasses.replace(state, put_off=put_off, next_start=now + pause, started_at=None, ready_since=None)


def backoff_seconds(failures: int, settings: RunnerSettings, jitter: float = 0.0) -> float:
    """Return the pause after that many failures in a row: doubling, jittered, bounded."""
    doubled = settings.backoff_seconds * 2.0 ** min(failures - 1, MOST_DOUBLINGS)
    return min(settings.backoff_max_seconds, doubled * (1 + JITTER_SHARE * jitter))


def _without_process(state: SupervisorState, now: float) -> tuple[SupervisorState, SuperviseAction]:
    if state.gave_up or (state.next_start is not None and now < state.next_start):
        return state, NOTHING
    again = state.failures > 0
    started = dataclasses.replace(state, again=again, next_start=None, started_at=now, ready_since=None)
    return started, SuperviseAction(kind=SuperviseKind.START)


def _begun_again(state: SupervisorState) -> SuperviseAction:
    """Say so at the first look that finds it: whether a start succeeds is not known before."""
    detail = f"started again after {state.failures} failure(s) in a row"
    return SuperviseAction(
        kind=SuperviseKind.NONE, incident=IncidentCode.RUNNER_RESTARTED, detail=detail, count=state.failures
    )


def _running(state: SupervisorState, look: Look, now: float, settings: RunnerSettings) -> SupervisorState:
    state = dataclasses.replace(state, put_off=0, again=False)
    if look.state != "ready":
        return dataclasses.replace(state, ready_since=None)
    since = now if state.ready_since is None else state.ready_since
    doubted = state.doubted and not look.any_good
    forgiven = now - since >= settings.healthy_seconds and not doubted
    return dataclasses.replace(state, ready_since=since, doubted=doubted, failures=0 if forgiven else state.failures)


def _failed(
    state: SupervisorState,
    look: Look,
    now: float,
    settings: RunnerSettings,
    jitter: float,
    *,
    can_fall_back: bool,
) -> tuple[SupervisorState, SuperviseAction]:
    failures = state.failures + 1
    incident = FAILURES[look.state]
    if failures >= settings.max_failures and can_fall_back:
        gone = SupervisorState(failures=failures, gave_up=True)
        detail = f"{failures} failure(s) in a row, the last one {incident}: {look.detail}"
        return gone, SuperviseAction(
            kind=SuperviseKind.FALL_BACK, incident=IncidentCode.FELL_BACK, detail=detail, count=failures
        )
    waiting = SupervisorState(
        failures=failures,
        next_start=now + backoff_seconds(failures, settings, jitter),
        doubted=state.doubted or look.state == BAD_ANSWERS,
    )
    return waiting, SuperviseAction(
        kind=SuperviseKind.KILL_AND_RESTART, incident=incident, detail=look.detail, count=failures
    )
