"""A bad network as a fixture, and what passed through it at the end of the run."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from network.bad_network import Site
from network.proxy import CALM, Weather

FIGURES = pytest.StashKey[list[str]]()


@pytest.fixture
def site_with(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Provide a function from a broker and a weather to a site that is closed at the end."""
    with ExitStack() as open_sites:

        def make(broker: Any, weather: Weather = CALM, seed: int = 0) -> Site:
            site = Site(tmp_path, broker, weather=weather, seed=seed)
            open_sites.callback(site.close)
            return site

        yield make


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Provide a function that has a line of figures printed at the end of the run."""
    lines = request.config.stash.setdefault(FIGURES, [])
    return lambda text: lines.append(f"{request.node.name}: {text}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    lines = config.stash.get(FIGURES, [])
    if lines:
        terminalreporter.section("bad network")
        terminalreporter.write_line("\n".join(lines))
