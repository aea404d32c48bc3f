"""The supervisor's promises over any sequence of looks: pauses, giving up, forgiving."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepick_agent.core.settings import RunnerSettings
from edgepick_agent.core.supervise import (
    Look,
    SuperviseKind,
    SupervisorState,
    backoff_seconds,
    observe,
    put_off,
)
from edgepick_agent.ports import RunnerState
from edgepick_wire.messages import IncidentCode

SETTINGS = RunnerSettings(max_failures=3, healthy_seconds=60, backoff_seconds=1, backoff_max_seconds=10)
FAILING = ("exited", "hung", "over-memory", "bad-answers")
LOOKS = st.sampled_from([*FAILING, "starting", "ready", "ready", "ready"])
TIMES = st.lists(st.tuples(st.floats(0.01, 30), LOOKS, st.floats(0, 1)), max_size=120)
ANY_SETTINGS = st.builds(
    RunnerSettings,
    max_failures=st.integers(1, 8),
    healthy_seconds=st.floats(0.1, 100),
    backoff_seconds=st.floats(0.01, 5),
    backoff_max_seconds=st.floats(5, 60),
)


class World:
    """A runner as the supervisor sees it: alive or not, and what was done to it."""

    def __init__(self, settings: RunnerSettings, *, can_fall_back: bool = True) -> None:
        self.settings = settings
        self.can_fall_back = can_fall_back
        self.state = SupervisorState()
        self.now = 0.0
        self.alive = False
        self.starts: list[float] = []
        self.failures: list[float] = []
        self.actions: list = []

    def look(self, seen: str | None = None, *, after: float = 0.0, jitter: float = 0.0, any_good: bool = False):
        self.now += after
        look = Look(state=seen or "ready", detail="why", any_good=any_good) if self.alive else None
        self.state, action = observe(
            self.state, look, self.now, self.settings, jitter=jitter, can_fall_back=self.can_fall_back
        )
        if self.alive and seen in FAILING:
            self.failures.append(self.now)
        self.alive = action.kind is SuperviseKind.START or (self.alive and action.kind is SuperviseKind.NONE)
        if action.kind is SuperviseKind.START:
            self.starts.append(self.now)
        self.actions.append(action)
        return action

    def put_off(self, *, jitter: float = 0.0) -> None:
        """Have the start that was asked for fail by no fault of the variant."""
        self.state = put_off(self.state, self.now, self.settings, jitter=jitter)
        self.alive = False


def play(settings: RunnerSettings, steps: list, **options) -> World:
    world = World(settings, **options)
    for after, seen, jitter in steps:
        world.look(seen, after=after, jitter=jitter)
    return world


def test_the_first_look_starts_at_once():
    """A new variant has no pause before its first start, and that start is no incident."""
    action = World(SETTINGS).look()

    assert (action.kind, action.incident) == (SuperviseKind.START, None)


@pytest.mark.parametrize(
    ("seen", "code"),
    [
        (RunnerState.EXITED, IncidentCode.RUNNER_CRASHED),
        (RunnerState.HUNG, IncidentCode.RUNNER_HUNG),
        (RunnerState.OVER_MEMORY, IncidentCode.RUNNER_OVER_MEMORY),
        (RunnerState.BAD_ANSWERS, IncidentCode.RUNNER_BAD_ANSWERS),
    ],
)
def test_each_way_to_fail_is_its_own_incident(seen, code):
    """A crash, a hang and too much memory are told apart, with what was seen and the count."""
    world = World(SETTINGS)
    world.look()

    action = world.look(seen.value, after=1)

    assert (action.kind, action.incident) == (SuperviseKind.KILL_AND_RESTART, code)
    assert (action.detail, action.count) == ("why", 1)


def test_every_runner_state_is_known_here():
    """The states that fail or run are exactly those of the port."""
    assert {*FAILING, "starting", "ready"} == {state.value for state in RunnerState}


def test_a_restart_is_reported_with_its_count():
    """When the pause is over the runner starts again; once that is seen, it is an incident of its own."""
    world = World(SETTINGS)
    world.look()
    world.look("exited", after=1)

    early, due = world.look(after=0.5), world.look(after=0.6)
    seen, later = world.look("starting", after=0.1), world.look("ready", after=0.1)

    assert [early.kind, due.kind, seen.kind] == [SuperviseKind.NONE, SuperviseKind.START, SuperviseKind.NONE]
    assert [early.incident, due.incident, later.incident] == [None] * 3
    assert (seen.incident, seen.count) == (IncidentCode.RUNNER_RESTARTED, 1)


def test_it_falls_back_at_the_nth_failure_and_stays_down():
    """The third failure in a row ends the variant; it is never started again."""
    world = World(SETTINGS)
    kinds = []
    for _ in range(3):
        while world.look(after=5).kind is not SuperviseKind.START:
            pass
        kinds.append(world.look("exited", after=1).kind)

    assert kinds == [SuperviseKind.KILL_AND_RESTART, SuperviseKind.KILL_AND_RESTART, SuperviseKind.FALL_BACK]
    assert world.actions[-1].incident is IncidentCode.FELL_BACK
    assert "runner-crashed" in world.actions[-1].detail
    assert [world.look(after=100).kind for _ in range(5)] == [SuperviseKind.NONE] * 5


def test_with_nothing_to_fall_back_to_the_restarts_go_on():
    """The only variant there is keeps being tried, at the longest pause."""
    world = World(SETTINGS, can_fall_back=False)
    for _ in range(20):
        while not world.alive:
            world.look(after=1)
        world.look("exited", after=0.1)

    assert not world.state.gave_up
    assert world.state.next_start == pytest.approx(world.now + SETTINGS.backoff_max_seconds)


def test_what_starts_after_being_put_off_waits_as_briefly_the_next_time():
    """Once a process was seen, the pauses after further starts that fail begin anew."""
    world = World(SETTINGS)
    world.look()
    for _ in range(9):
        world.put_off()
        world.look(after=SETTINGS.backoff_max_seconds)
    world.look("ready")

    world.put_off()

    assert world.state.next_start == pytest.approx(world.now + SETTINGS.backoff_seconds)


def test_healthy_time_forgives():
    """Ready without a break for the healthy time sets the count to nought; less does not."""
    world = World(SETTINGS)
    world.look()
    world.look("exited", after=1)
    world.look(after=2)
    world.look("ready", after=1)

    world.look("ready", after=59)
    before = world.state.failures
    world.look("ready", after=2)

    assert (before, world.state.failures) == (1, 0)


def test_bad_answers_are_forgiven_by_a_good_one_only():
    """A device that is seldom asked does not forget between two requests that its variant answers badly."""
    world = World(SETTINGS)
    world.look()
    world.look("bad-answers", after=1)
    world.look(after=2)
    world.look("ready", after=1)

    world.look("ready", after=1000)
    before = world.state.failures
    world.look("ready", after=1, any_good=True)

    assert (before, world.state.failures) == (1, 0)


def test_readiness_must_be_unbroken_to_forgive():
    """A runner that is ready, not ready, and ready again starts its healthy time anew."""
    world = World(SETTINGS)
    world.look()
    world.look("exited", after=1)
    world.look(after=2)
    for seen, after in [("ready", 1), ("starting", 50), ("ready", 1), ("ready", 30)]:
        world.look(seen, after=after)

    assert world.state.failures == 1


@given(ANY_SETTINGS, TIMES)
def test_it_never_restarts_faster_than_the_backoff(settings, steps):
    """Between a failure and the next start lies at least the shortest pause."""
    world = play(settings, steps)

    for failed in world.failures:
        later = [start for start in world.starts if start >= failed]
        assert not later or later[0] - failed >= min(settings.backoff_seconds, settings.backoff_max_seconds) - 1e-9


@given(ANY_SETTINGS, TIMES)
def test_it_falls_back_exactly_at_the_limit(settings, steps):
    """A fall-back happens if and only if the count of failures in a row reaches the limit."""
    world = play(settings, steps)

    for action in world.actions:
        if action.kind is SuperviseKind.FALL_BACK:
            assert action.count == settings.max_failures
        if action.kind is SuperviseKind.KILL_AND_RESTART:
            assert action.count < settings.max_failures
    assert sum(a.kind is SuperviseKind.FALL_BACK for a in world.actions) <= 1


@given(ANY_SETTINGS, TIMES, st.booleans())
def test_starts_and_stops_alternate(settings, steps, can_fall_back):
    """A process is only ever started when none runs, and only stopped when one does."""
    world = play(settings, steps, can_fall_back=can_fall_back)
    kinds = [a.kind for a in world.actions if a.kind is not SuperviseKind.NONE]

    assert all((kind is SuperviseKind.START) == (i % 2 == 0) for i, kind in enumerate(kinds))


@given(ANY_SETTINGS, st.integers(0, 7), st.floats(0, 1))
def test_starts_that_fail_by_no_fault_come_ever_more_rarely_and_are_blamed_on_nobody(settings, failures, jitter):
    """Each waits at least as long as the one before, up to the longest pause; no failure is counted, none is told."""
    world, pauses = World(settings), []
    world.state = SupervisorState(failures=failures)
    world.look()
    for _ in range(70):
        world.put_off(jitter=jitter)
        pauses.append(world.state.next_start - world.now)
        early = world.look(after=pauses[-1] * 0.9)
        due = world.look(after=pauses[-1] * 0.2)
        assert (early.kind, due.kind) == (SuperviseKind.NONE, SuperviseKind.START)

    assert all(pause <= later + 1e-6 for pause, later in pairwise(pauses))
    assert pauses[-1] == pytest.approx(settings.backoff_max_seconds)
    assert (world.state.failures, world.state.gave_up) == (failures, False)
    assert {action.incident for action in world.actions} == {None}


@given(ANY_SETTINGS, TIMES, st.lists(st.booleans(), max_size=20))
def test_a_restart_is_told_once_of_each_that_is_seen(settings, steps, refused):
    """Whatever fails to start is told as nothing that runs, and what runs is told once."""
    world, told, refused = World(settings, can_fall_back=False), 0, [*refused]
    for after, seen, jitter in steps:
        action = world.look(seen, after=after, jitter=jitter)
        if action.kind is SuperviseKind.START:
            told = 0
            if refused and refused.pop():
                world.put_off(jitter=jitter)
        if action.incident is IncidentCode.RUNNER_RESTARTED:
            told += 1
            assert world.alive
        assert told <= 1


@given(st.integers(1, 2000), st.floats(0, 1), st.floats(0, 1))
def test_the_pause_grows_to_its_bound(failures, jitter, other):
    """Each further failure waits at least as long, jitter only lengthens, and the bound holds."""
    pause = backoff_seconds(failures, SETTINGS, jitter)

    assert backoff_seconds(failures, SETTINGS) <= pause <= SETTINGS.backoff_max_seconds
    assert pause <= backoff_seconds(failures + 1, SETTINGS, jitter)
    assert backoff_seconds(failures, SETTINGS, min(jitter, other)) <= backoff_seconds(
        failures, SETTINGS, max(jitter, other)
    )
