"""What the page about compression says, held against the command."""

from pathlib import Path

import click
import pytest

from edgepick_host.cli.compress import CORESETS, compress
from edgepick_host.core.recipe_names import parse
from edgepick_wire.manifest import ModelFormat

PAGE = (Path(__file__).parents[2] / "docs/compress.md").read_text()
OPTIONS = [name for each in compress.params if isinstance(each, click.Option) for name in each.opts]


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_is_on_the_page(option):
    """An option of the command that the page does not mention cannot be found by its reader."""
    assert f"`{option}" in PAGE


def test_every_way_to_choose_samples_is_on_the_page():
    """So can the values of --coreset."""
    assert all(f"`{name}`" in PAGE or f"--coreset {name}`" in PAGE for name in CORESETS)


@pytest.mark.parametrize("recipe", ["eq.static_wi8_ai8.mse.bias", "channels20_shallow.static_wi8_ai8"])
def test_recipes_on_the_page_exist(recipe):
    """A recipe that the page shows is one that the command takes."""
    assert recipe in PAGE
    assert parse(recipe, ModelFormat.TFLITE) is not None
