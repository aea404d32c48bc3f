"""A bad network as a fixture."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from network.bad_network import Site
from network.proxy import CALM, Weather


@pytest.fixture
def site_with(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Provide a function from a broker and a weather to a site that is closed at the end."""
    with ExitStack() as open_sites:

        def make(broker: Any, weather: Weather = CALM, seed: int = 0) -> Site:
            site = Site(tmp_path, broker, weather=weather, seed=seed)
            open_sites.callback(site.close)
            return site

        yield make
