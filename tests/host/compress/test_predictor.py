"""Running models on this host: several inputs, number types, and hosts whose int8 sums saturate."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import tiny_models
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgepick_host.cli.compress import compress
from edgepick_host.compress import predictor
from edgepick_host.compress.dataset import load_dataset, plain_name
from edgepick_host.compress.source import load_source
from edgepick_host.core.variants import VariantSet
from edgepick_wire.codec import decode_document

INT8 = np.dtype(np.int8)


@given(
    st.floats(min_value=1e-4, max_value=10),
    st.integers(min_value=-128, max_value=127),
    st.lists(st.floats(min_value=-1000, max_value=1000), min_size=1, max_size=20),
)
def test_quantizing_is_off_by_half_a_step_at_most(scale, zero_point, values):
    """A real value within the range comes back within half a step; outside, it comes back as the range's end."""
    real = np.array(values)
    low, high = (-128 - zero_point) * scale, (127 - zero_point) * scale

    back = predictor.dequantize(predictor.quantize(real, (scale, zero_point), INT8), (scale, zero_point))

    assert np.all(np.abs(back - np.clip(real, low, high)) <= scale * 0.501 + 1e-3)


def test_floats_pass_through():
    """A float tensor, and an integer one without a scale, are only cast."""
    x = np.array([1.5, -2.5])

    assert predictor.quantize(x, (0.0, 0), np.dtype(np.float32)).tolist() == [1.5, -2.5]
    assert predictor.dequantize(np.array([3, -4], dtype=np.int32), (0.0, 0)).tolist() == [3.0, -4.0]


@pytest.mark.parametrize(
    ("machine", "flags", "expected"),
    [("x86_64", "flags: avx2", True), ("x86_64", "flags: avx2 avx512_vnni", False), ("x86_64", "avx_vnni", False),
     ("aarch64", "Features: asimd", False)],
)  # fmt: skip
def test_hosts_whose_sums_saturate_are_known(monkeypatch, machine, flags, expected):
    """Only x86 without VNNI is at risk."""
    monkeypatch.setattr(predictor.platform, "machine", lambda: machine)
    monkeypatch.setattr(Path, "read_text", lambda self, *a, **k: flags)

    assert predictor.int8_sums_may_saturate() is expected


def test_such_a_host_evaluates_without_optimisation(files, tmp_path, monkeypatch):
    """On a host at risk, ONNX quality is measured on the unoptimised graph, and the variant says so."""
    opened: list[bool] = []
    real = predictor.OnnxPredictor

    def spy(model, *, optimise=True):
        opened.append(optimise)
        return real(model, optimise=optimise)

    monkeypatch.setattr(predictor, "OnnxPredictor", spy)
    for module in ("predictor", "verdicts"):
        monkeypatch.setattr(f"edgepick_host.compress.{module}.int8_sums_may_saturate", lambda: True)
    data = ["--calibration", str(files.calibration), "--evaluation", str(files.evaluation)]
    chosen = [
        "--profile",
        "generic-linux",
        "--recipe",
        "static_wi8_ai8",
        "--max-accuracy-drop",
        "10%",
        "--workers",
        "1",
        "--no-cache",
    ]

    CliRunner().invoke(
        compress, [str(files.onnx), *data, *chosen, "--out", str(tmp_path / "out")], catch_exceptions=False
    )

    found = decode_document(VariantSet, (tmp_path / "out/variants.json").read_bytes())
    assert opened == [True, False, True]  # the float model, the variant's quality, the variant's latency
    assert "no VNNI" in found.variants[0].provenance["evaluation"]


def two_inputs() -> bytes:
    rng = np.random.default_rng(0)
    arrays = {"wa": rng.normal(size=(6, 5)), "wb": rng.normal(size=(3, 5))}
    nodes = [
        helper.make_node("MatMul", ["a", "wa"], ["ma"], "one"),
        helper.make_node("MatMul", ["b", "wb"], ["mb"], "two"),
        helper.make_node("Add", ["ma", "mb"], ["y"], "sum"),
    ]
    graph = helper.make_graph(
        nodes,
        "two",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, s]) for n, s in (("a", 6), ("b", 3))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


@pytest.fixture
def two(tmp_path) -> tuple[Path, Path]:
    rng = np.random.default_rng(1)
    (tmp_path / "two.onnx").write_bytes(two_inputs())
    data = tiny_models.save(tmp_path / "two.npz", x_a=rng.normal(size=(40, 6)), x_b=rng.integers(-3, 4, (40, 3)))
    return tmp_path / "two.onnx", data


def test_several_inputs_are_told_apart_by_name(two):
    """Archive entries ``x_<name>`` reach the inputs of that name."""
    path, data = two
    source, dataset = load_source(path), load_dataset(data)

    outputs = predictor.predict(predictor.OnnxPredictor(source.data), dataset, source.facts.inputs)

    weights = {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    expected = dataset.arrays["x_a"] @ weights["wa"] + dataset.arrays["x_b"] @ weights["wb"]
    assert np.allclose(outputs, expected, atol=1e-4)


def test_several_inputs_are_compressed_and_kept_in_the_golden_archive(two, tmp_path):
    """A model of two inputs goes all the way, and its golden archive holds both by name, as float32 or integers."""
    path, data = two
    out = tmp_path / "out"
    chosen = ["--profile", "generic-linux", "--recipe", "static_wi8_ai8", "--max-accuracy-drop", "20%"]

    result = CliRunner().invoke(
        compress,
        [str(path), *chosen, "--calibration", str(data), "--evaluation", str(data), "--out", str(out)],
        catch_exceptions=False,
    )

    found = decode_document(VariantSet, (out / "variants.json").read_bytes())
    assert [variant.name for variant in found.variants] == ["static_wi8_ai8-onnx"], result.output
    with np.load(out / found.golden) as golden:
        assert {key: golden[key].dtype.kind for key in golden.files} == {"x_a": "f", "x_b": "i", "expected": "f"}
        assert golden["x_a"].dtype == np.float32


@pytest.mark.parametrize(
    ("name", "plain"), [("serving_default_image:0", "image"), ("image", "image"), ("a/b:0", "a/b"), ("x", "x")]
)
def test_names_lose_what_exporters_add(name, plain):
    """An input is asked for by the name that its author gave it."""
    assert plain_name(name) == plain
