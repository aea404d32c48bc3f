"""A clock that stands still until it is moved."""


class FakeClock:
    """Keeps ``edgepick_agent.ports.Clock``."""

    def __init__(self, start: float = 1000.0) -> None:
        self.time = start

    def monotonic(self) -> float:
        return self.time

    def now(self) -> float:
        return 1_700_000_000.0 + self.time

    def advance(self, seconds: float) -> None:
        self.time += seconds
