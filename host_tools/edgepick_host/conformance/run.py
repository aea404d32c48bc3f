"""Runs cases against an agent, several at a time, each on a stage of its own."""

import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from edgepick_host.conformance.bench import Bench, make_bench
from edgepick_host.conformance.catalogue import CASES
from edgepick_host.conformance.interface import BrokerAddress
from edgepick_host.conformance.simulated_host import present
from edgepick_host.conformance.verdict import (
    Case,
    CaseFailedError,
    CaseResult,
    RunResult,
    Verdict,
    ended,
    expecting,
    lacking,
)
from edgepick_host.errors import InputFileError

OBSERVED_CHARACTERS = 400
COMMENT = "#"

OnResult = Callable[[CaseResult], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to run.

    Attributes:
        command: Program and leading arguments of the agent under test.
        broker: Where the broker listens.
        broker_name: What to call it in the table.
        folder: Where the agents' folders go.
        seconds: Longest wait for any one thing in a case.
        jobs: Cases at a time.
        only: Names of cases; empty for all.
        xfails: Names of cases that are expected to fail.
    """

    command: tuple[str, ...]
    broker: BrokerAddress
    broker_name: str
    folder: Path
    seconds: float = 15.0
    jobs: int = 4
    only: tuple[str, ...] = ()
    xfails: frozenset[str] = frozenset()


def chosen(only: Sequence[str]) -> tuple[Case, ...]:
    """Return the cases of these names; all of them without any.

    Raises:
        InputFileError: There is no such case.
    """
    _check_names(only, "--only")
    return tuple(case for case in CASES if not only or case.name in only)


def read_xfails(path: Path) -> frozenset[str]:
    """Return the names in a file of expected failures: one a line, ``#`` begins a comment.

    Raises:
        InputFileError: It cannot be read, or names a case that does not exist.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise InputFileError(f"{path}: {reason}", hint="Give a text file with one case name a line.") from error
    names = [line.partition(COMMENT)[0].strip() for line in lines]
    _check_names([name for name in names if name], str(path))
    return frozenset(name for name in names if name)


def _check_names(names: Sequence[str], where: str) -> None:
    unknown = sorted(set(names) - {case.name for case in CASES})
    if unknown:
        hint = "`edgepick conformance list` shows them all."
        raise InputFileError(f"{where}: no case is called {', '.join(unknown)}", hint=hint)


def run_cases(options: Options, on_result: OnResult = lambda _: None) -> RunResult:
    """Return the whole table; ``on_result`` is called as each case ends.

    Raises:
        InputFileError: The command cannot be started, or a name is unknown.
        UnreachableError: No broker answers.
    """
    agents: list[str] = []
    benches: list[Bench] = []

    def one(case: Case) -> CaseResult:
        result = expecting(_run(case, options, agents, benches), options.xfails)
        on_result(result)
        return result

    cases = chosen(options.only)
    with ThreadPoolExecutor(max_workers=options.jobs) as pool:
        try:
            results = tuple(pool.map(one, cases))
        except BaseException:  # Ctrl-C among them: leave no agent behind, and do not begin what waits
            pool.shutdown(wait=False, cancel_futures=True)
            for bench in benches:
                bench.agent.abandon()
            raise
    return RunResult(
        agent=agents[0] if agents else "unknown", command=options.command, broker=options.broker_name, cases=results
    )


def _run(case: Case, options: Options, agents: list[str], benches: list[Bench]) -> CaseResult:
    """Return how a case ended; whatever it was, its agent runs no longer."""
    fleet = f"conf-{uuid.uuid4().hex[:12]}"
    bench = make_bench(options.command, options.folder / case.name, options.broker, fleet, options.seconds)
    benches.append(bench)
    began = time.monotonic()
    try:
        verdict, observed = _play(case, bench, agents)
    finally:
        bench.agent.kill()
    return ended(case, verdict, observed, time.monotonic() - began)


def _play(case: Case, bench: Bench, agents: list[str]) -> tuple[Verdict, str]:
    try:
        agents.append(bench.prepare().agent)
        missing = lacking(case, bench.capabilities)
        if missing:
            return Verdict.SKIPPED, f"the agent does not declare {', '.join(missing)}"
        with present(bench.host):
            try:
                observed = case.run(bench)
                bench.agent.stop()
            finally:
                bench.agent.kill()
    except CaseFailedError as failure:
        return Verdict.FAILED, str(failure)[:OBSERVED_CHARACTERS]
    return Verdict.PASSED, observed[:OBSERVED_CHARACTERS]
