"""What a person asks of ``edgepick-agent benchmark``."""

from dataclasses import dataclass

from edgepick_agent.core.passes import Passes
from edgepick_agent.core.profile import SweepSetting
from edgepick_agent.core.runner_spec import GoldenFile
from edgepick_agent.core.settings import BrokerSettings, PowerSettings
from edgepick_wire.manifest import RunLimits
from edgepick_wire.metrics import MeasurePlan


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileRequest:
    """A model file to profile, and how.

    Attributes:
        model: Path of the file.
        runtime: Name; ``None`` for the first installed one that reads the format. tflm only when named.
        accelerators: In order of preference.
        plan: How to measure; ``plan.threads`` is the number of threads.
        passes: What to find out beside the closed loop.
        restarts: Starts of the runner.
        broker: Where the topic of a meter is.
        python: Interpreter of the runner; ``None`` for this one.
        sweep: Further settings to measure, each with as many restarts.
        trace: File that gets a trace for Perfetto.
    """

    model: str
    runtime: str | None = None
    accelerators: tuple[str, ...] = ("cpu",)
    plan: MeasurePlan = MeasurePlan()
    passes: Passes = Passes()
    restarts: int = 1
    limits: RunLimits = RunLimits()
    golden: GoldenFile | None = None
    sensors: tuple[str, ...] = ()
    power: PowerSettings = PowerSettings()
    broker: BrokerSettings | None = None
    sysfs_root: str = "/"
    python: str | None = None
    stand_in: bool = False
    sweep: tuple[SweepSetting, ...] = ()
    trace: str | None = None
