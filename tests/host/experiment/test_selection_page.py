"""The page about selection tells no other numbers than the code."""

import re
from fractions import Fraction
from pathlib import Path

import pytest

from edgepick_host.core.constraints import Bounded
from edgepick_host.core.experiment.evidence import least_units
from edgepick_host.core.experiment.shakedown import detectable
from edgepick_host.core.objective import parse_objective

PAGE = (Path(__file__).parents[3] / "docs" / "selection.md").read_text(encoding="utf-8")
RATE = Fraction(1, 20)


def row(label):
    """Return the cells of the table row that begins with ``label``."""
    line = next(line for line in PAGE.splitlines() if line.startswith(f"| {label} |"))
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_the_units_that_suffice_are_the_codes():
    """For each number of comparisons, the table names the fewest unanimous units."""
    families = [int(cell) for cell in row("comparisons that share 5 %")]

    assert [int(cell) for cell in row("units")] == [least_units(RATE / family) for family in families]


@pytest.mark.parametrize("devices", [7, 20, 50, 100, 200])
def test_the_detectable_gains_are_the_codes(devices):
    """For each number of devices, the table names the gain that is found with 90 % probability."""
    found = [f"{100 * detectable(sigma, devices, RATE):.1f} %" for sigma in (0.01, 0.02, 0.05)]

    assert row(devices) == found


def test_the_objective_of_the_page_is_read_and_every_figure_is_named():
    """The example works as printed, and no figure that can be limited is left out."""
    written = re.search(r'--objective "([^"]+)"', PAGE)[1]

    assert len(parse_objective(written).constraints) == 2
    assert all(f"`{figure.value}`" in PAGE for figure in Bounded)
