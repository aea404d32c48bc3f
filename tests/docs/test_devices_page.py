"""What the page about devices says, held against the rules that are applied."""

import re
from pathlib import Path

import device_tables
import pytest

from edgepick_host.compress.edgetpu_variants import SUFFIX
from edgepick_host.core.model_facts import ModelFacts, OperatorFacts
from edgepick_host.core.plan import make_plan
from edgepick_host.core.verify import profile_objection
from edgepick_profiles.load import load_all, load_profile
from edgepick_wire.manifest import ModelFormat

ROOT = Path(__file__).parents[2]
PAGE = device_tables.PAGE.read_text()


def test_every_table_is_what_the_rules_say():
    """Tables on the page are the data that models are checked against; the module that makes them mends the page."""
    assert device_tables.updated(PAGE) == PAGE, "run: python tests/docs/device_tables.py"


def test_the_rejection_on_the_page_is_a_real_one():
    """The example of a rule with its confidence is what the check says of such a model."""
    operator = OperatorFacts(name="CONV_2D", version=6)
    facts = ModelFacts(
        format=ModelFormat.TFLITE, size_bytes=1, inputs=(), outputs=(), tensors=(), operators=(operator,)
    )

    objection = profile_objection(facts, load_profile("coral-dev-board"), None)

    assert objection is not None
    assert objection.reason in PAGE


def test_the_recipes_for_microcontrollers_are_ones_that_they_get():
    """Whatever recipe that section names, asked for by this name, is a candidate and not a rejection."""
    section = PAGE.partition("\n## Microcontrollers\n")[2].partition("\n## ")[0]
    operator = OperatorFacts(name="CONV_2D", version=1)
    facts = ModelFacts(
        format=ModelFormat.TFLITE, size_bytes=1, inputs=(), outputs=(), tensors=(), operators=(operator,)
    )
    named = re.findall(r"--recipe (\w+)", section)

    plan = make_plan({ModelFormat.TFLITE: facts}, [load_profile("mcu-cortex-m4")], recipes=named)

    assert named
    assert [candidate.recipe.name for candidate in plan.candidates] == named
    assert plan.rejections == ()


@pytest.mark.parametrize("name", sorted(load_all()))
def test_every_profile_is_on_the_page(name):
    """Nobody's device is left out."""
    assert f"| `{name}` |" in PAGE


def test_the_page_is_found():
    """README and the pages about compression and profiles lead here, and the name of a compiled variant is right."""
    assert all(
        "devices.md" in (ROOT / name).read_text() for name in ("README.md", "docs/compress.md", "docs/profiles.md")
    )
    assert f"`<variant>{SUFFIX}`" in PAGE
