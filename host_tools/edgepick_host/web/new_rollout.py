"""What an operator sends to start a rollout, as the plan that it means."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from edgepick_host.core.experiment.between import Between
from edgepick_host.core.gates import Policy
from edgepick_host.core.objective import DEFAULT_OBJECTIVE, parse_objective
from edgepick_host.core.schedule import parse_waves
from edgepick_host.core.waves import Plan
from edgepick_host.errors import ConfigError
from edgepick_wire import codec
from edgepick_wire.errors import MalformedError


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRollout:
    """What an operator asks for; the options of ``edgepick rollout start``, times in seconds, shares from 0 to 1."""

    model: str
    version: str = ""
    variant: str | None = None
    profiles: tuple[str, ...] = ()
    canary: int = 1
    waves: str = "25%,50%,100%"
    only: str = ""
    window: str = ""
    checks: str = ""
    phase_deadlines: Mapping[str, float] = field(default_factory=dict)
    min_confirmed: float = 1.0
    replace: bool = False
    objective: str = str(DEFAULT_OBJECTIVE)
    deadline: float = 600.0
    measure_deadline: float = 600.0
    soak: float = 5.0
    max_failures: float = 0.10
    tolerated: float = 0.005
    max_slower: float = 0.05
    min_devices: int = 1
    min_gain: float = 0.0
    alpha: float = 0.05
    max_accuracy_drop: float = 0.01
    max_bytes: int | None = None
    between: float | None = None
    between_time: float = 3600.0
    max_excess: float = 0.05

    def __post_init__(self) -> None:
        """Refuse what no document can hold, and so no answer and no audit log either."""
        for each in fields(self):
            _check_storable(each.name, getattr(self, each.name))

    def plan(self) -> Plan:
        """Return the plan.

        Raises:
            ConfigError: A value that makes no sense.
        """
        try:
            parse_objective(self.objective)
            return Plan(
                version=self.version,
                variant=self.variant,
                profiles=self.profiles,
                canary=self.canary,
                steps=parse_waves(self.waves),
                only=self.only,
                window=self.window,
                checks=self.checks,
                phase_seconds=self.phase_deadlines,
                min_confirmed=self.min_confirmed,
                max_failures=self.max_failures,
                tolerated=self.tolerated,
                max_slower=self.max_slower,
                between=self._between(),
                wave_seconds=self.deadline,
                soak_seconds=self.soak,
                measure_seconds=self.measure_deadline,
                objective=self.objective,
                policy=Policy(
                    min_devices=self.min_devices,
                    max_accuracy_drop=self.max_accuracy_drop,
                    min_gain=self.min_gain,
                    alpha=self.alpha,
                ),
                max_bytes=self.max_bytes,
            )
        except MalformedError as error:
            raise ConfigError(str(error), hint="docs/rollout.md says what is allowed.") from error

    def _between(self) -> Between | None:
        if self.between is None:
            return None
        return Between(share=self.between, seconds=self.between_time, max_excess=self.max_excess)


def _check_storable(name: str, value: object) -> None:
    try:
        codec.encode_document(value)
    except MalformedError as error:
        raise ConfigError(
            f"{name} holds what no document can: a number that is not finite, or half of a surrogate pair",
            hint="docs/rollout.md says what is allowed.",
        ) from error
