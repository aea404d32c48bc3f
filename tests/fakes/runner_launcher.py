"""Runners that do what a script says, without a process."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from edgepick_agent.core.runner_spec import RunnerFailure, RunnerMode, RunnerResult, RunnerSpec, ShadowProgress
from edgepick_agent.ports import RunnerObservation, RunnerState
from edgepick_wire.metrics import (
    Conditions,
    EnergySummary,
    GoldenResult,
    LatencySummary,
    Measurement,
    MeasurePlan,
    MemorySummary,
    RuntimeUsed,
    Verdict,
)
from edgepick_wire.shadow import ShadowSummary


def measurement(plan: MeasurePlan, *, passed: bool = True) -> Measurement:
    """Return a measurement with invented figures."""
    return Measurement(
        plan=plan,
        runtime=RuntimeUsed(name="litert", version="2.1", accelerator="cpu"),
        load_ns=1,
        first_inference_ns=1,
        latency=LatencySummary(runs=5, mean_ns=5, stdev_ns=1, min_ns=4, max_ns=6, p50_ns=5),
        throughput_per_s=100.0,
        memory=MemorySummary(
            peak_rss_bytes=1,
            steady_rss_bytes=1,
            private_bytes=1,
            proportional_bytes=1,
            baseline_rss_bytes=1,
            model_file_bytes=1,
        ),
        energy=EnergySummary(reason="no sensor"),
        golden=GoldenResult(
            samples=8,
            agreement=float(passed),
            mean_abs_error=0.0,
            accuracy=None,
            finite=True,
            passed=passed,
            detail="8 of 8 agree" if passed else "0 of 8 agree",
        ),
        conditions=Conditions(stand_in=True, machine="a fake"),
        verdict=Verdict.VALID,
    )


@dataclass
class Script:
    """How the runners of one version behave.

    ``measure``: "passes", "fails" (wrong answers), "cannot" (a failure), "crashes", "hangs" or "swells".
    ``shadow``: as ``serve``, and "ends" (after a few looks, with a report).
    ``serve``: "serves", "crashes", "hangs", "swells", "blunders" (bad answers) or "slow" (never ready, never
    failed).
    """

    measure: str = "passes"
    serve: str = "serves"
    shadow: str = "serves"


LOOKS = {
    "serves": RunnerObservation(state=RunnerState.READY, rss_bytes=1),
    "hangs": RunnerObservation(state=RunnerState.HUNG, rss_bytes=1, detail="no answer"),
    "swells": RunnerObservation(state=RunnerState.OVER_MEMORY, rss_bytes=1 << 40, detail="too much memory"),
    "blunders": RunnerObservation(state=RunnerState.BAD_ANSWERS, rss_bytes=1, detail="NaN"),
    "crashes": RunnerObservation(state=RunnerState.EXITED, exit_code=-11, detail="killed by SIGSEGV"),
}
"""What one looks like that behaves so; whatever else it does, it has come to its end."""


@dataclass
class ScriptedProcess:
    """Keeps ``edgepick_agent.ports.RunnerProcess``."""

    spec: RunnerSpec
    mode: RunnerMode
    script: Script
    pid: int
    running: bool = True
    looks: int = 0
    killed: bool = False
    fronted: bool = False

    def observe(self) -> RunnerObservation:
        self.looks += 1
        if not self.running or self.killed:
            return RunnerObservation(state=RunnerState.EXITED, exit_code=-9, detail="killed by SIGKILL")
        behaviour = {
            RunnerMode.MEASURE: self.script.measure,
            RunnerMode.SERVE: self.script.serve,
            RunnerMode.SHADOW: self.script.shadow,
        }[self.mode]
        return self._observe(behaviour)

    def _observe(self, behaviour: str) -> RunnerObservation:
        if self.looks == 1 or behaviour == "slow":
            return RunnerObservation(state=RunnerState.STARTING, rss_bytes=1)
        if behaviour == "ends" and self.looks < 4:
            return LOOKS["serves"]
        return LOOKS.get(behaviour, RunnerObservation(state=RunnerState.EXITED, exit_code=0))

    def result(self) -> RunnerResult | None:
        if self.mode is not RunnerMode.MEASURE or self.script.measure in {"crashes", "hangs", "swells"} or self.killed:
            return None
        if self.script.measure == "cannot":
            return RunnerResult(failure=RunnerFailure(code="model-load", detail="not a model"))
        return RunnerResult(measurement=measurement(self.spec.plan, passed=self.script.measure == "passes"))

    def shadow(self) -> ShadowProgress | None:
        if self.mode is not RunnerMode.SHADOW or self.looks < 3:
            return None
        assert self.spec.shadow is not None
        done = self.script.shadow == "ends" and self.looks >= 4
        return ShadowProgress(
            done=done, detail="", summary=ShadowSummary(against=self.spec.shadow.against, seconds=1.0, compared=7)
        )

    def front(self) -> None:
        self.fronted = True

    def leave_port(self) -> None:
        self.fronted = False

    def retire(self) -> None:
        self.running = False

    def stop(self, *, grace_seconds: float = 2.0) -> None:
        self.running = False


@dataclass
class ScriptedLauncher:
    """Keeps ``edgepick_agent.ports.RunnerLauncher``; behaviour goes by the spec's version."""

    scripts: dict[str, Script] = field(default_factory=dict)
    started: list[ScriptedProcess] = field(default_factory=list)
    missing_files: list[str] = field(default_factory=list)
    lacks: int | None = None
    """Error number of the system while it starts nothing."""

    def start(self, spec: RunnerSpec, mode: RunnerMode) -> ScriptedProcess:
        if self.lacks is not None:
            raise OSError(self.lacks, os.strerror(self.lacks))
        script = self.scripts.get(spec.version, Script())
        process = ScriptedProcess(spec, mode, script, pid=1000 + len(self.started))
        self.started.append(process)
        return process

    def close_port(self, model: str) -> None:
        pass

    def close(self) -> None:
        pass

    def alive(self, mode: RunnerMode = RunnerMode.SERVE) -> list[str]:
        """Return the versions whose runners are up."""
        return [p.spec.version for p in self.started if p.running and p.mode is mode]

    @staticmethod
    def digest_of(spec: RunnerSpec) -> str:
        """Return the manifest that a spec's model file belongs to."""
        return Path(spec.model_path).parts[-3]
