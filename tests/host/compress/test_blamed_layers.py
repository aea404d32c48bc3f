"""A network with one layer that integers ruin: who is told, and what is done about it where floats are allowed."""

import numpy as np
import pytest
import tiny_models
from click.testing import CliRunner

from edgepick_host.app.compression import compression_pass
from edgepick_host.cli.compress import compress
from edgepick_host.compress.dataset import load_dataset
from edgepick_host.compress.pipeline import spent_on_search
from edgepick_host.compress.predictor import TflitePredictor, predict
from edgepick_host.compress.quality import answers
from edgepick_host.compress.source import load_source
from edgepick_host.compress.work import LayersJob, Material, Start, do
from edgepick_host.core.blame import most_of_it
from edgepick_host.core.layer_errors import LayerError
from edgepick_host.core.search_record import SearchRecord
from edgepick_host.core.variants import RejectionCode, VariantSet
from edgepick_wire.codec import decode_document
from edgepick_wire.manifest import ModelFormat

UNUSED_WEIGHT = 500.0
"""On an input that is always 0: it changes no answer, and makes the step of its row too large for all others."""

RUINED = {"tflite": "logits", "onnx": "l"}


def ruined_weights() -> tiny_models.Weights:
    w = tiny_models.weights()
    w.first[0], w.first_bias[0] = w.first[0] * 1e-3, -1.0
    w.second[0], w.second_bias[0] = w.second[0] * 1e-3, -0.1
    w.dense[:, 0] = UNUSED_WEIGHT
    return w


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """Provide what a search finds for a microcontroller and for boards that may keep layers in float."""
    folder = tmp_path_factory.mktemp("blame")
    w = ruined_weights()
    (folder / "m.tflite").write_bytes(tiny_models.tflite_model(w))
    (folder / "m.onnx").write_bytes(tiny_models.onnx_model(w))
    x = tiny_models.images(120, seed=3)
    unlabelled = tiny_models.save(folder / "unlabelled.npz", x=x)
    source = load_source(folder / "m.tflite")
    ideal = answers(predict(TflitePredictor(source.data), load_dataset(unlabelled), source.facts.inputs))
    tiny_models.save(folder / "calibration.npz", x=tiny_models.images(40, seed=2))
    tiny_models.save(folder / "evaluation.npz", x=x, y=ideal)
    profiles = [f"--profile={name}" for name in ("mcu-cortex-m4", "raspberry-pi-4")]
    data = [f"--{name}={folder / name}.npz" for name in ("calibration", "evaluation")]
    models = [str(folder / "m.tflite"), str(folder / "m.onnx")]
    more = [f"--out={folder / 'out'}", f"--cache={folder / 'cache'}", "--workers=1", "--max-accuracy-drop=3%"]
    result = CliRunner().invoke(compress, [*models, *profiles, *data, *more], catch_exceptions=False)
    found = decode_document(VariantSet, (folder / "out/variants.json").read_bytes())
    record = decode_document(SearchRecord, (folder / "out/search.json").read_bytes())
    return result, found, record


def test_a_device_of_integers_is_told_which_layer_ruins_it(searched):
    """The refusal of plain int8 names the layer and its noise, on screen and in the file; no variant is left."""
    result, found, _ = searched

    reason = next(
        r.reason for r in found.rejections if (r.recipe, r.profile) == ("static_wi8_ai8-tflite", "mcu-cortex-m4")
    )
    assert result.exit_code == 1
    assert "most of it in logits (" in reason
    assert reason in result.stdout


@pytest.mark.parametrize("model_format", RUINED)
def test_where_floats_are_allowed_that_layer_stays_in_float(searched, model_format):
    """Mixed precision keeps the layer that hurts most, measured alone, and is within the tolerance."""
    _, found, record = searched

    mixed = [v for v in found.variants if ".keep" in v.name and v.recipe.format.value == model_format]
    assert mixed
    assert record.sensitivity[model_format][0].layer == RUINED[model_format]
    assert all(
        RUINED[model_format] in variant.recipe.steps[-1].parameters["keep_float"].split("\n") for variant in mixed
    )
    assert all(np.isfinite(error.alone_sqnr_db or 0) for error in record.sensitivity[model_format])


def test_a_loss_that_integers_did_not_make_is_not_blamed_on_them(searched):
    """What fell at another gate than accuracy has no layer in its reason."""
    _, found, _ = searched

    others = [r for r in found.rejections if r.code is not RejectionCode.ACCURACY]
    assert others
    assert not any("dB" in rejection.reason for rejection in others)


def error(layer: str, sqnr_db: float, alone_sqnr_db: float | None = None) -> LayerError:
    return LayerError(layer=layer, operator="CONV_2D", sqnr_db=sqnr_db, alone_sqnr_db=alone_sqnr_db)


@pytest.mark.parametrize(
    ("errors", "text"),
    [
        ((), ""),
        ((error("a", 30, 10), error("b", 30, 30)), "most of it in a (10 dB)"),
        ((error("a", 1, 10), error("b", 2, 11), error("c", 3, 12)), "most of it in a (10 dB) and b (11 dB)"),
        (tuple(error(n, 1, 10) for n in "abcdefgh"), "most of it in a (10 dB), b (10 dB) and c (10 dB)"),
        ((error("a", 5), error("b", 9), error("c", 10)), "the noise is largest in a (5 dB) and b (9 dB)"),
    ],
)
def test_as_many_layers_are_named_as_make_half_of_the_noise(errors, text):
    """One layer that stands out is named alone, and never more than three are."""
    assert most_of_it(errors) == text


@pytest.mark.parametrize("model_format", list(ModelFormat))
def test_what_was_trained_is_compared_with_what_training_ended_with(files, context, onnx_context, model_format):
    """The noise of each layer is that of its integers; against the network before training it would be all training."""
    of_format = {ModelFormat.TFLITE: context, ModelFormat.ONNX: onnx_context}[model_format]
    make = {ModelFormat.TFLITE: tiny_models.tflite_model, ModelFormat.ONNX: tiny_models.onnx_model}[model_format]
    before, trained = (make(tiny_models.weights(seed)) for seed in (0, 1))
    quantizer = {ModelFormat.TFLITE: "tflite_static_int8", ModelFormat.ONNX: "onnx_static_qdq"}[model_format]
    model = compression_pass(quantizer)(trained, {}, of_format)
    material = Material(
        sources={model_format: before},
        facts={model_format: of_format.source},
        calibration=of_format.calibration,
        evaluation=of_format.calibration,
        reference=np.zeros((1, 1), np.float32),
        golden=(),
    )

    errors = [
        do(LayersJob(model=model, format=model_format, start=start), material, compression_pass).errors
        for start in (None, Start(model=trained, ranges={}))
    ]

    # The input is the same before and after; its integers are not, and it is no layer.
    assert min(error.sqnr_db for error in errors[1]) > 10 > min(error.sqnr_db for error in errors[0])


def test_a_budget_leaves_time_for_the_end():
    """Candidates are tried for most of a budget; what is kept for the end is never more than twenty seconds."""
    assert spent_on_search(60) == pytest.approx(51)
    assert spent_on_search(3600) == pytest.approx(3580)
