"""What a microcontroller holds at once, and what is said about a model that does not fit."""

from dataclasses import replace

import numpy as np
import pytest

from edgepick_host.compress.arena import measure_arena
from edgepick_host.compress.arena_plan import ALIGNMENT, arena_peak
from edgepick_host.compress.dataset import Dataset, load_dataset
from edgepick_host.compress.source import load_source
from edgepick_host.core.plan import make_plan
from edgepick_host.core.variants import RejectionCode
from edgepick_host.core.verify import ArenaFacts, profile_objection
from edgepick_profiles.load import load_profile
from edgepick_profiles.schema import NumberType
from edgepick_wire.manifest import ModelFormat
from host.devices_rules.conftest import DEMO

M4 = load_profile("mcu-cortex-m4")


def counted(model: bytes, golden: Dataset, inputs) -> ArenaFacts:
    facts = measure_arena(model, golden, inputs)
    assert facts.failure == ""
    return facts


def test_the_peak_is_what_the_interpreter_reserves(tiny, tiny_source, tiny_int8):
    """On a residual network, the planned head of the arena is the one that tflite-micro's allocator counted."""
    facts = counted(tiny_int8, tiny.golden, tiny_source.facts.inputs)

    assert facts.peak == arena_peak(tiny_int8)
    assert facts.peak.head_bytes == facts.head_bytes
    assert facts.recorded_bytes >= facts.head_bytes


def test_the_peak_of_the_demo_model_is_its_recorded_head(demo_int8):
    """On the demo's model, it is within two per cent of what the recording allocator counted."""
    golden = load_dataset(DEMO / "evaluation.npz").subset(range(2))

    facts = counted(demo_int8, golden, load_source(DEMO / "digits.tflite").facts.inputs)

    assert facts.peak.head_bytes == pytest.approx(facts.head_bytes, rel=0.02)


@pytest.mark.parametrize("name", ["ad01", "kws", "resnet8"])
def test_the_peaks_of_published_models_are_their_recorded_heads(published, name):
    """So it is on MLPerf Tiny's int8 files."""
    from edgepick_host.compress.source import describe

    path = published / f"{name}_int8_reference.tflite"
    inputs = describe(path.read_bytes(), ModelFormat.TFLITE, path).inputs
    x = np.zeros((2, *inputs[0].shape[1:]), dtype=np.float32)

    facts = counted(path.read_bytes(), Dataset(source=path, arrays={"x": x}, labels=None), inputs)

    assert facts.peak.head_bytes == pytest.approx(facts.head_bytes, rel=0.02)


def test_the_peak_names_the_residual_addition(tiny_int8):
    """Two maps and the one being computed live at once where the branches meet: three tensors of 8x8x4."""
    peak = arena_peak(tiny_int8)

    assert [tensor.size_bytes for tensor in peak.tensors] == [256, 256, 256]
    assert peak.live_bytes == 768
    assert peak.live_bytes % ALIGNMENT == 0
    assert peak.operator in {"CONV_2D", "ADD"}


def test_what_does_not_fit_says_by_how_many_bytes_and_where(tiny, tiny_source, tiny_int8):
    """Too small an arena is refused with the bytes that are missing, the operator at the peak and its tensors."""
    facts = counted(tiny_int8, tiny.golden, tiny_source.facts.inputs)
    small = replace(M4, budgets=replace(M4.budgets, arena_bytes=facts.arena_bytes - 100))

    objection = profile_objection(tiny_source.facts, replace(small, rules=load_profile("generic-linux").rules), facts)

    assert objection is not None
    assert objection.code is RejectionCode.BUDGET
    assert f"{facts.arena_bytes:,} bytes, 100 more than" in objection.reason
    assert facts.peak.operator in objection.reason
    assert "added (256)" in objection.reason or "second (256)" in objection.reason


def test_too_large_a_file_says_by_how_many_bytes(tiny_source):
    """A file above the flash that a profile gives is refused with the difference."""
    size = tiny_source.facts.size_bytes
    tight = replace(M4, budgets=replace(M4.budgets, model_bytes=size - 7), rules=load_profile("generic-linux").rules)

    objection = profile_objection(tiny_source.facts, tight, None)

    assert objection is not None
    assert f"{size:,} bytes are 7 more than" in objection.reason


def test_sixteen_bits_are_made_on_request_only(tiny_source):
    """A microcontroller gets int16 activations where the recipe is named, or where its profile allows the type."""
    models = {ModelFormat.TFLITE: tiny_source.facts}
    wide = replace(M4, rules=replace(M4.rules, number_types=(NumberType.INT8, NumberType.INT16)))

    named = make_plan(models, [M4], recipes=["static_wi8_ai16_int_io"])
    allowed = make_plan(models, [replace(wide, recipes=("static_wi8_ai16_int_io",))])
    unasked = make_plan(models, [replace(M4, recipes=("static_wi8_ai16_int_io",))])

    assert [candidate.name for candidate in named.candidates] == ["static_wi8_ai16_int_io-tflite"]
    assert [candidate.name for candidate in allowed.candidates] == ["static_wi8_ai16_int_io-tflite"]
    assert unasked.candidates == ()
    assert "does not run int16" in unasked.rejections[0].reason
