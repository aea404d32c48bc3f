"""When a runner that says nothing, or is not done in time, counts as hung: never at the first look that finds it so."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from edgepick_agent.adapters.runner_look import Health, is_stopped
from edgepick_agent.adapters.runner_process import Launcher
from edgepick_agent.core.runner_spec import RunnerMode
from edgepick_agent.ports import RunnerState
from edgepick_wire.manifest import RunLimits
from edgepick_wire.metrics import MeasurePlan
from fakes.clock import FakeClock
from fakes.runner_outside import PATIENCE_SECONDS, until, wait_for


@pytest.fixture
def clocked(tmp_path: Path):
    """Provide a launcher on a clock that the test moves, and the clock."""
    clock = FakeClock()
    launcher = Launcher(None, tmp_path / "clocked", clock)
    started = []

    def start(spec, mode):
        started.append(launcher.start(spec, mode))
        return started[-1]

    yield start, clock
    for process in started:
        process.stop(grace_seconds=0)


def seen_after(seconds, process, clock):
    """Return what a runner looks like after a time in which the agent has looked once more."""
    clock.time += seconds / 2
    process.observe()
    clock.time += seconds / 2
    return process.observe()


def states_hourly(process, clock, monkeypatch, answers):
    """Return what a runner is found to be at looks that are an hour apart, by what it answers at each."""
    seen = []
    for answer in answers:
        monkeypatch.setattr(process._probe, "look", lambda answer=answer: answer)
        clock.time += 3600
        seen.append(process.observe().state)
    return seen


def test_a_stopped_server_is_hung_after_a_while(clocked, spec):
    """SIGSTOP is bridged for two seconds, then the runner is hung; SIGCONT brings it back."""
    start, clock = clocked
    process = start(spec, RunnerMode.SERVE)
    wait_for(process, RunnerState.READY)
    os.kill(process.pid, signal.SIGSTOP)
    until(lambda: is_stopped(process.pid), "stopped")

    at_once = process.observe()
    later = seen_after(2.1, process, clock)
    os.kill(process.pid, signal.SIGCONT)

    assert at_once.state is RunnerState.READY
    assert (later.state, later.detail) == (RunnerState.HUNG, "the process is stopped")
    wait_for(process, RunnerState.READY)


def test_a_stopped_measurement_is_hung_after_a_while(clocked, spec):
    """SIGSTOP during a measurement is seen without waiting for its deadline."""
    start, clock = clocked
    process = start(replace(spec, plan=MeasurePlan(min_seconds=60, max_seconds=60)), RunnerMode.MEASURE)
    os.kill(process.pid, signal.SIGSTOP)
    until(lambda: is_stopped(process.pid), "stopped")

    at_once = process.observe()
    later = seen_after(2.1, process, clock)

    assert at_once.state is RunnerState.READY
    assert later.state is RunnerState.HUNG


def test_a_measurement_beyond_its_deadline_is_hung(clocked, spec):
    """A measurement still there a while after everything its plan allows is hung, with the seconds."""
    start, clock = clocked
    process = start(replace(spec, plan=MeasurePlan(min_seconds=60, max_seconds=60)), RunnerMode.MEASURE)

    clock.time += 1e6
    first = process.observe()
    late = seen_after(2.1, process, clock)

    assert first.state is RunnerState.READY
    assert late.state is RunnerState.HUNG
    assert "did not end within" in late.detail


@pytest.mark.parametrize("said", [None, Health(live=True, ready=False)], ids=["silent", "not ready"])
def test_a_server_that_does_not_get_ready_is_hung(clocked, spec, monkeypatch, said):
    """A while past the time to start, silent or with the word that it is not ready, it is hung."""
    start, clock = clocked
    process = start(replace(spec, limits=RunLimits(start_seconds=5)), RunnerMode.SERVE)
    monkeypatch.setattr(process._probe, "look", lambda: said)

    early = process.observe()
    clock.time += 5.1
    first = process.observe()
    late = seen_after(2.1, process, clock)

    assert (early.state, first.state) == (RunnerState.STARTING, RunnerState.STARTING)
    assert late.state is RunnerState.HUNG
    assert "not ready within 5 s" in late.detail


def test_a_silent_server_is_given_the_time_of_one_inference(clocked, spec, monkeypatch):
    """Alive but without an answer, it counts as hung only after the limit of one inference."""
    start, clock = clocked
    process = start(replace(spec, limits=RunLimits(inference_seconds=10)), RunnerMode.SERVE)
    wait_for(process, RunnerState.READY)
    monkeypatch.setattr(process._probe, "look", lambda: None)

    process.observe()
    bridged = seen_after(9, process, clock).state
    late = seen_after(2, process, clock)

    assert bridged is RunnerState.READY
    assert (late.state, late.detail) == (RunnerState.HUNG, "no answer to its health check for 10 s")


def test_an_agent_that_was_held_up_does_not_blame_its_runner(clocked, spec, monkeypatch):
    """However long it did not look, a first look without an answer says nothing; nor does one after an answer."""
    start, clock = clocked
    process = start(spec, RunnerMode.SERVE)
    wait_for(process, RunnerState.READY)
    answer = until(process._probe.look, "an answer")

    seen = states_hourly(process, clock, monkeypatch, (None, answer, None))

    assert seen == [RunnerState.READY] * 3


def test_a_machine_that_stood_still_between_two_looks_blames_nobody(clocked, spec, monkeypatch):
    """The runner has had no time to answer when the agent looks again first: it is given one more look."""
    start, clock = clocked
    process = start(spec, RunnerMode.SERVE)
    wait_for(process, RunnerState.READY)
    answer = until(process._probe.look, "an answer")

    seen = states_hourly(process, clock, monkeypatch, (None, None, answer, None, None))

    assert seen == [RunnerState.READY] * 5


@pytest.mark.parametrize("said", [None, Health(live=True, ready=False)], ids=["no word yet", "an old word"])
def test_a_runner_that_became_ready_while_nobody_looked_is_ready(clocked, spec, monkeypatch, said):
    """An agent that was held up past the time to start does not end a runner for what it hears first."""
    start, clock = clocked
    process = start(spec, RunnerMode.SERVE)
    until(process._probe.look, "an answer")
    answer = process._probe.look

    clock.time += 2 * PATIENCE_SECONDS
    monkeypatch.setattr(process._probe, "look", lambda: said)
    first = process.observe()
    monkeypatch.setattr(process._probe, "look", answer)

    assert first.state is RunnerState.STARTING
    wait_for(process, RunnerState.READY)
