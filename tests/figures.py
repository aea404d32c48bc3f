"""Figures that tests have to show: collected while they run, in whatever process, and printed at the end."""

from collections.abc import Callable, Iterator

import pytest

FIGURE = "figure"


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Provide a function that has a line of figures printed at the end of the run."""
    return lambda text: request.node.user_properties.append((FIGURE, text))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print every figure, under the name of its test."""
    found = list(_figures(terminalreporter))
    if found:
        terminalreporter.section("figures")
        terminalreporter.write_line("\n".join(found))


def _figures(reporter: pytest.TerminalReporter) -> Iterator[str]:
    for outcome in ("passed", "failed"):
        for report in reporter.stats.get(outcome, []):
            name = report.nodeid.rpartition("/")[2]
            yield from (f"{name}: {value}" for key, value in report.user_properties if key == FIGURE)
