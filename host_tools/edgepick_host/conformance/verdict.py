"""What a case is, how it may end, and what a whole run says. Pure."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edgepick_host.conformance.interface import Capability
from edgepick_host.errors import StateError
from edgepick_wire.enums import StrEnum

if TYPE_CHECKING:
    from edgepick_host.conformance.bench import Bench


class Verdict(StrEnum):
    """How a case ended."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    XFAILED = "xfailed"
    """Failed, and the file of expected failures names it."""
    XPASSED = "xpassed"
    """Passed, although the file of expected failures names it: the file is out of date."""

    @property
    def is_bad(self) -> bool:
        """Whether the whole run fails by it."""
        return self in {Verdict.FAILED, Verdict.XPASSED}


class CaseFailedError(StateError):
    """The agent did what it must not, or did not do in time what it must; the message is what was observed."""

    code = "case-failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One attack.

    Attributes:
        name: For ``--only`` and the file of expected failures.
        attack: What is done to the agent.
        expected: What a conforming agent does.
        run: Does it; returns what was observed.
        needs: Capabilities without which it means nothing.
    """

    name: str
    attack: str
    expected: str
    run: "Callable[[Bench], str]"
    needs: frozenset[Capability] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseResult:
    """One line of the table."""

    name: str
    attack: str
    expected: str
    observed: str
    verdict: Verdict
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """The table.

    Attributes:
        agent: What the agent calls itself.
        command: How it was called.
        broker: What the messages went through.
    """

    agent: str
    command: tuple[str, ...]
    broker: str
    cases: tuple[CaseResult, ...]

    @property
    def passed(self) -> bool:
        """Whether no case failed against expectation."""
        return not any(case.verdict.is_bad for case in self.cases)


def ended(case: Case, verdict: Verdict, observed: str, seconds: float) -> CaseResult:
    """Return the line of a case."""
    return CaseResult(
        name=case.name,
        attack=case.attack,
        expected=case.expected,
        observed=observed,
        verdict=verdict,
        seconds=round(seconds, 2),
    )


def lacking(case: Case, capabilities: Iterable[str]) -> tuple[str, ...]:
    """Return the capabilities that the case needs and the agent does not declare."""
    return tuple(sorted(case.needs - set(capabilities)))


def expecting(result: CaseResult, xfails: frozenset[str]) -> CaseResult:
    """Return the result, its verdict seen in the light of the expected failures."""
    changed = {Verdict.FAILED: Verdict.XFAILED, Verdict.PASSED: Verdict.XPASSED}
    if result.name not in xfails or result.verdict not in changed:
        return result
    return replace(result, verdict=changed[result.verdict])
