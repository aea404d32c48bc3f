"""Operators that an engine skips without a word are named: in rejections, in notes, and in explain."""

from pathlib import Path

import numpy as np
import pytest
from onnxruntime.quantization import registry

from edgepick_host import app
from edgepick_host.cli.main import run
from edgepick_host.compress.request import CompressRequest
from edgepick_host.core.operator_tables import ONNX_QUANTIZED
from edgepick_host.core.variants import VariantSet
from edgepick_profiles.load import load_profile
from host.devices_rules import odd_models

SEQUENCES = {"x": np.random.default_rng(0).normal(0, 1, (20, odd_models.STEPS, odd_models.FEATURES)).astype(np.float32)}
IMAGES = {"x": np.random.default_rng(1).normal(0, 1, (20, 8, 8, 2)).astype(np.float32)}
PAIRS = {f"x_{side}": np.random.default_rng(2).normal(0, 1, (20, 6)).astype(np.float32) for side in ("left", "right")}
RECIPES = ("static_wi8_ai8", "weight_only_wi8")


def compressed(folder: Path, model: bytes, suffix: str, arrays: dict, *profiles: str, **more) -> VariantSet:
    (folder / f"odd.{suffix}").write_bytes(model)
    np.savez(folder / "data.npz", **arrays)
    settings = {"recipes": RECIPES, "max_accuracy_drop": 1.0} | more
    request = CompressRequest(
        models=(folder / f"odd.{suffix}",),
        profiles=tuple(map(load_profile, profiles)),
        calibration=folder / "data.npz",
        evaluation=folder / "data.npz",
        out=folder / "out",
        **settings,
    )
    return app.compress_model(request, say=lambda _: None)


CASES = [
    (odd_models.rectified_tflite, "tflite", IMAGES, "LEAKY_RELU, PRELU, SQUEEZE"),
    (odd_models.recurrent_tflite, "tflite", SEQUENCES, "UNIDIRECTIONAL_SEQUENCE_LSTM"),
    (odd_models.recurrent_onnx, "onnx", SEQUENCES, "LSTM, PRelu"),
]


@pytest.mark.parametrize("case", CASES)
def test_what_stays_float_is_named_where_that_is_allowed(tmp_path, capsys, case):
    """Where floats are allowed, the variant is kept, and the search's notes and explain name what is not integer."""
    model, suffix, arrays, names = case
    compressed(tmp_path, model(), suffix, arrays, "raspberry-pi-4")

    notes = "\n".join(app.read_search(tmp_path / "out").notes)
    assert run(["explain", str(tmp_path / "out"), f"static_wi8_ai8-{suffix}"]) == 0
    shown = " ".join(capsys.readouterr().out.split())

    assert f"static_wi8_ai8-{suffix}: left in float by the quantizer" in notes
    assert f"no integer form of them: {names}" in notes
    assert f"raspberry-pi-4: kept: left in float by the quantizer, which has no integer form of them: {names}" in shown


@pytest.mark.parametrize(("model", "suffix", "arrays", "names"), CASES[:2])
def test_what_stays_float_is_named_where_that_is_not_allowed(tmp_path, model, suffix, arrays, names):
    """A device of integers only refuses the variant, naming the operators and not only the tensors."""
    found = compressed(tmp_path, model(), suffix, arrays, "mcu-cortex-m4")

    refused = next(r for r in found.rejections if r.recipe == f"static_wi8_ai8-{suffix}")
    assert found.variants == ()
    assert "float tensors are left" in refused.reason
    assert refused.reason.endswith(f"no integer form of {names}")


@pytest.mark.parametrize(
    ("model", "suffix"), [(odd_models.recurrent_tflite, "tflite"), (odd_models.recurrent_onnx, "onnx")]
)
def test_weights_that_stay_wide_are_named(tmp_path, model, suffix):
    """A recipe that narrows weights says which layers it left out."""
    compressed(tmp_path, model(), suffix, SEQUENCES, "raspberry-pi-4", recipes=("weight_only_wi8",))

    notes = "\n".join(app.read_search(tmp_path / "out").notes)

    assert f"weight_only_wi8-{suffix}: float weights left by the quantizer" in notes
    assert "LSTM" in notes


@pytest.mark.parametrize("suffix", ["tflite", "onnx"])
def test_nothing_is_said_of_what_is_integer(tmp_path, tiny, suffix):
    """A network that is quantized as a whole gets no such note."""
    with np.load(tiny.evaluation) as archive:
        compressed(tmp_path, getattr(tiny, suffix).read_bytes(), suffix, dict(archive), "generic-linux")

    assert not [note for note in app.read_search(tmp_path / "out").notes if "float" in note]


def test_layers_that_were_kept_on_purpose_are_not_reported(tmp_path, tiny):
    """What a recipe keeps in float is its choice, not the engine's silence."""
    with np.load(tiny.evaluation) as archive:
        compressed(
            tmp_path, tiny.onnx.read_bytes(), "onnx", dict(archive), "generic-linux", recipes=("static_wi8_ai8.keep1",)
        )

    assert not [note for note in app.read_search(tmp_path / "out").notes if "float" in note]


def test_recurrent_layers_forget_the_sample_before(tmp_path):
    """Answers of a model with a state do not depend on the order of samples: the same weights agree on all of them."""
    found = compressed(
        tmp_path, odd_models.recurrent_tflite(), "tflite", SEQUENCES, "raspberry-pi-4", recipes=("float32", "float16")
    )

    assert [variant.quality.agreement for variant in found.variants] == [1.0, 1.0]


def test_the_table_is_the_engines_own():
    """The operators that we take for quantized in ONNX are those that the engine has a rule for."""
    assert set(registry.QDQRegistry) | set(registry.QLinearOpsRegistry) == ONNX_QUANTIZED


@pytest.mark.parametrize(("model", "suffix"), [(odd_models.pair_tflite, "tflite"), (odd_models.pair_onnx, "onnx")])
def test_several_inputs_and_outputs_work(tmp_path, model, suffix):
    """Two inputs are fed by name, and both formats are compressed with all of their outputs."""
    found = compressed(
        tmp_path, model(), suffix, PAIRS, "generic-linux", recipes=("static_wi8_ai8", "dynamic_wi8_afp32")
    )

    assert {variant.name for variant in found.variants} == {
        f"static_wi8_ai8-{suffix}",
        f"dynamic_wi8_afp32-{suffix}",
    }
    assert all(variant.quality.agreement > 0.8 for variant in found.variants)


def test_several_inputs_and_outputs_are_exported(tmp_path):
    """The sources for a microcontroller hold golden vectors of each input and each output."""
    compressed(tmp_path, odd_models.pair_tflite(), "tflite", PAIRS, "mcu-cortex-m4")

    app.export_c(
        tmp_path / "out",
        "static_wi8_ai8-tflite",
        tmp_path / "c",
        prefix="two",
        samples=2,
        force=False,
        say=lambda _: None,
    )

    golden, main = (tmp_path / "c/two_golden.h").read_text(), (tmp_path / "c/two_main.cc").read_text()
    for name in ("input_0", "input_1", "output_0", "output_1"):
        assert f"two_golden_{name}[" in golden
    assert "interpreter.input(1)" in main
    assert "two_difference_1" in main
