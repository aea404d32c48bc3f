"""The guards on published models (MLPerf Tiny, CIFAR-10); skipped where EDGEPICK_BENCH_DATA names no such data."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_models

from edgepick_host.compress import tflite_file
from edgepick_host.compress.arena import measure_arena
from edgepick_host.compress.dataset import load_dataset
from edgepick_host.compress.passes import tflite_static_int8
from edgepick_host.compress.predictor import OnnxPredictor, TflitePredictor, predict
from edgepick_host.compress.quality import accuracy, agreement, mean_abs_error
from edgepick_host.compress.source import load_source
from edgepick_host.compress.step import StepContext
from edgepick_host.compress.tflite_auto import quantize_static
from edgepick_host.compress.tflite_guard import StaticOptions
from edgepick_host.core.model_facts import NARROW_TYPES
from edgepick_host.core.verify import MAX_TFLM_LSB
from edgepick_host.errors import InputFileError

PUBLISHED_ARENA = {"resnet8": 56_080, "ad01": 17_360}
"""Bytes that tflite-micro's recording allocator counts for these models in int8 with per-channel dense layers."""


@pytest.fixture
def resnet(bench_data):
    return load_source(bench_data / "mlperf_tiny/resnet8_float.tflite")


@pytest.fixture
def autoencoder(bench_data):
    return load_source(bench_data / "mlperf_tiny/ad01_float.tflite")


def resnet_int8(resnet, calibration: Path) -> bytes:
    context = StepContext(calibration=load_dataset(calibration), source=resnet.facts)
    return quantize_static(resnet.data, StaticOptions(), context)


def spectra(path: Path, seed: int):
    """Return log-mel-like noise: the levels are right, the content is not, which is enough for structure."""
    x = np.random.default_rng(seed).normal(-20, 6, (24, 640)).astype(np.float32)
    return load_dataset(tiny_models.save(path, x=x))


def test_resnet8_loses_no_more_than_the_published_int8_model(bench_data, resnet):
    """Full int8 of ResNet8 is at least as accurate as the reference int8 file, and loses at most one point."""
    evaluation = load_dataset(bench_data / "cifar10/evaluation_2000.npz")
    published = (bench_data / "mlperf_tiny/resnet8_int8_reference.tflite").read_bytes()

    model = resnet_int8(resnet, bench_data / "cifar10/calibration_256.npz")

    scores = [
        accuracy(predict(TflitePredictor(data), evaluation, resnet.facts.inputs), evaluation.labels)
        for data in (resnet.data, published, model)
    ]
    assert scores[2] >= scores[1]
    assert scores[0] - scores[2] <= 0.01


def fidelity(outputs, reference) -> tuple[float, float, float]:
    """Return agreement, mean absolute error and mean divergence (nats) of probabilities."""
    divergence = reference * np.log((reference + 1e-6) / (outputs + 1e-6))
    return agreement(outputs, reference), mean_abs_error(outputs, reference), float(divergence.sum(axis=1).mean())


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_resnet8_of_the_automatic_recipe_is_nearer_to_float_than_the_published_one(bench_data, resnet):
    """On unseen images, it agrees more, errs less and diverges less than the published file, and reaches 77.0 %."""
    context = StepContext(calibration=load_dataset(bench_data / "cifar10/calibration_256.npz"), source=resnet.facts)
    evaluation = load_dataset(bench_data / "cifar10/evaluation_2000.npz")
    published = (bench_data / "mlperf_tiny/resnet8_int8_reference.tflite").read_bytes()

    model = tflite_static_int8.build()(resnet.data, {"calibration": "auto"}, context)

    reference, theirs, ours = (
        predict(TflitePredictor(data), evaluation, resnet.facts.inputs) for data in (resnet.data, published, model)
    )
    found, least = fidelity(ours, reference), fidelity(theirs, reference)
    assert found[0] > least[0]
    assert found[1] < least[1]
    assert found[2] < least[2]
    assert accuracy(ours, evaluation.labels) >= 0.770
    assert tflite_file.describe(model, Path("resnet8")).float_tensors == ()
    arena = measure_arena(model, evaluation.subset(range(4)), resnet.facts.inputs)
    assert arena.failure == ""
    assert arena.max_lsb <= MAX_TFLM_LSB


def test_resnet8_is_integers_only_and_fits_its_arena(bench_data, resnet):
    """The int8 file has no float tensor, and tflite-micro's count of its arena is the published one within 2 %."""
    model = resnet_int8(resnet, bench_data / "cifar10/calibration_256.npz")
    evaluation = load_dataset(bench_data / "cifar10/evaluation_2000.npz").subset(range(4))

    arena = measure_arena(model, evaluation, resnet.facts.inputs)

    facts = tflite_file.describe(model, Path("resnet8"))
    assert facts.float_tensors == ()
    assert facts.saturated_biases == ()
    assert arena.failure == ""
    assert arena.max_lsb <= MAX_TFLM_LSB
    assert arena.recorded_bytes == pytest.approx(PUBLISHED_ARENA["resnet8"], rel=0.02)


def test_the_autoencoder_of_an_old_converter_is_quantized(autoencoder, tmp_path):
    """A file with deprecated opcodes, no signature and 1 MB of weights ends integer-only and runs on tflite-micro."""
    context = StepContext(calibration=spectra(tmp_path / "c.npz", 0), source=autoencoder.facts)

    model = quantize_static(autoencoder.data, StaticOptions(), context)
    arena = measure_arena(model, spectra(tmp_path / "e.npz", 1).subset(range(4)), autoencoder.facts.inputs)

    facts = tflite_file.describe(model, Path("ad01"))
    assert facts.float_tensors == ()
    assert facts.external_buffers == 0
    assert facts.saturated_biases == ()
    assert arena.failure == ""
    assert arena.max_lsb <= MAX_TFLM_LSB
    assert arena.recorded_bytes == pytest.approx(PUBLISHED_ARENA["ad01"], rel=0.02)


def test_per_tensor_dense_layers_save_arena(autoencoder, tmp_path):
    """On a microcontroller, per-channel dense layers cost several times the memory of per-tensor ones."""
    context = StepContext(calibration=spectra(tmp_path / "c.npz", 0), source=autoencoder.facts)
    samples = spectra(tmp_path / "e.npz", 1).subset(range(1))

    needed = [
        measure_arena(
            quantize_static(autoencoder.data, StaticOptions(dense=dense), context),
            samples,
            autoencoder.facts.inputs,
        ).arena_bytes
        for dense in ("per_channel", "per_tensor")
    ]

    assert needed[1] < needed[0] / 2


@pytest.mark.parametrize("name", ["resnet8_int8_reference", "ad01_int8_reference", "kws_int8_reference"])
def test_published_int8_models_are_refused_as_input(bench_data, name):
    """A model that is quantized already is not compressed a second time."""
    with pytest.raises(InputFileError, match="already quantized"):
        load_source(bench_data / f"mlperf_tiny/{name}.tflite")


@pytest.mark.parametrize("name", ["resnet8_float", "ad01_float"])
def test_published_float_models_are_accepted(bench_data, name):
    """Both float files are read as float, without any narrow constant."""
    facts = load_source(bench_data / f"mlperf_tiny/{name}.tflite").facts

    assert not {tensor.dtype for tensor in facts.tensors if tensor.constant} & NARROW_TYPES


@pytest.fixture(scope="module")
def converted():
    """Provide the benchmarks' converter."""
    path = Path(__file__).parents[3] / "benchmarks" / "tflite_to_onnx.py"
    spec = importlib.util.spec_from_file_location("tflite_to_onnx", path)
    module = sys.modules.setdefault("tflite_to_onnx", importlib.util.module_from_spec(spec))
    spec.loader.exec_module(module)
    return module.converted


def test_the_benchmarks_compare_formats_on_one_network(bench_data, resnet, converted):
    """ResNet8 as ONNX answers real images as the published file does, each probability within 1e-4."""
    evaluation = load_dataset(bench_data / "cifar10/evaluation_2000.npz").subset(range(100))

    answers = predict(OnnxPredictor(converted(resnet.data)), evaluation, resnet.facts.inputs)

    np.testing.assert_allclose(
        answers, predict(TflitePredictor(resnet.data), evaluation, resnet.facts.inputs), atol=1e-4
    )


def test_the_autoencoder_is_the_same_in_both_formats(autoencoder, converted, tmp_path):
    """The anomaly detector as ONNX reconstructs as the published file does, within 1e-4 of its largest value."""
    noise = spectra(tmp_path / "e.npz", 1)
    reference = predict(TflitePredictor(autoencoder.data), noise, autoencoder.facts.inputs)

    answers = predict(OnnxPredictor(converted(autoencoder.data)), noise, autoencoder.facts.inputs)

    np.testing.assert_allclose(answers, reference, atol=1e-4 * float(np.abs(reference).max()))
