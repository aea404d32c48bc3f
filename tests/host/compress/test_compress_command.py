"""``edgepick compress`` from end to end, on a model of a few hundred weights."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_models
from click.testing import CliRunner

from edgepick_host.cli.compress import compress
from edgepick_host.compress.golden import GOLDEN_SAMPLES
from edgepick_host.core.variants import Recipe, RejectionCode, VariantSet
from edgepick_profiles.schema import KNOWN_RECIPES
from edgepick_wire.codec import decode_document
from edgepick_wire.ids import digest_of

PROFILES = ("raspberry-pi-4", "coral-dev-board", "mcu-cortex-m4", "jetson-orin-nano")
PROGRAM = "from edgepick_host.cli.compress import compress; compress()"


def arguments(files, out, *more: str, profiles=PROFILES, models=None) -> list[str]:
    chosen = [f"--profile={name}" for name in profiles]
    data = ["--calibration", str(files.calibration), "--evaluation", str(files.evaluation), "--out", str(out)]
    quick = () if "--recipe" in more else ("--quick",)
    own = ["--max-accuracy-drop", "10%", "--no-cache", "--workers", "1", *quick]
    return [*map(str, models or (files.tflite, files.onnx)), *chosen, *data, *own, *more]


@pytest.fixture(scope="module")
def run(files, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "out"
    result = CliRunner().invoke(compress, arguments(files, out), catch_exceptions=False)
    return result, out, decode_document(VariantSet, (out / "variants.json").read_bytes())


def test_every_profile_gets_variants(run):
    """All four kinds of device are served, and the command says so with 0."""
    result, _, found = run

    assert result.exit_code == 0
    assert {profile for variant in found.variants for profile in variant.profiles} == set(PROFILES)


def test_every_candidate_is_accounted_for(run):
    """Each recipe of each profile ends as a variant or as a rejection with a reason, in every format it takes."""
    _, _, found = run

    for profile, formats in (("raspberry-pi-4", 2), ("coral-dev-board", 1), ("jetson-orin-nano", 1)):
        kept = {v.name for v in found.variants if profile in v.profiles}
        refused = {r.recipe for r in found.rejections if r.profile == profile}
        assert not kept & refused
        assert len(kept | refused) >= formats
        assert all(r.reason for r in found.rejections)
    pi = {v.name for v in found.variants if "raspberry-pi-4" in v.profiles}
    refused = {r.recipe for r in found.rejections if r.profile == "raspberry-pi-4"}
    assert len(pi | refused) == 2 * len(KNOWN_RECIPES) - 1  # float_io and plain int8 are one recipe in ONNX


def test_what_the_file_says_is_what_is_there(run):
    """Digests, sizes and recipes in ``variants.json`` are those of the files beside it."""
    _, out, found = run

    for variant in found.variants:
        model = (out / variant.folder / variant.file).read_bytes()
        assert digest_of(model) == variant.sha256
        assert len(model) == variant.size_bytes
        assert 0 < variant.compressed_bytes < variant.size_bytes
        recipe = decode_document(Recipe, (out / variant.folder / "recipe.json").read_bytes())
        assert recipe == variant.recipe
    assert len({variant.sha256 for variant in found.variants}) == len(found.variants)
    written = {"variants.json", "search.json", found.golden}
    assert {path.name for path in out.iterdir()} == written | {v.folder for v in found.variants}


def test_quality_is_measured(run):
    """The float variants lose nothing; every variant has accuracy, agreement, error and latency."""
    _, _, found = run

    assert found.float_accuracy == 1.0
    for variant in found.variants:
        quality = variant.quality
        assert quality.samples == 120
        assert quality.accuracy is not None
        assert quality.accuracy_drop == pytest.approx(1.0 - quality.accuracy)
        assert variant.host_latency_ns > 0
        if variant.recipe.name == "float32":
            assert quality.agreement == 1.0
            assert quality.mean_abs_error < 1e-6


def test_rules_shape_the_variants(run):
    """Coral gets per-tensor dense layers, Jetson the symmetric layout, the microcontroller a measured arena."""
    _, _, found = run
    by_name = {variant.name: variant for variant in found.variants}

    assert by_name["static_wi8_ai8_dense_per_tensor-tflite"].profiles == ("coral-dev-board",)
    assert by_name["static_wi8_ai8_symmetric-onnx"].profiles == ("jetson-orin-nano",)
    shared = by_name["static_wi8_ai8-tflite"]
    assert set(shared.profiles) == {"raspberry-pi-4", "mcu-cortex-m4"}
    assert shared.arena_bytes is not None
    assert "edgetpu_compiler" in by_name["static_wi8_ai8_dense_per_tensor-tflite"].provenance["edgetpu"]


def test_every_profile_has_a_front(run):
    """Each served profile has at least one variant on its Pareto front, and only among its own."""
    _, _, found = run

    for profile in PROFILES:
        front = [variant for variant in found.variants if profile in variant.pareto]
        assert front
        assert all(profile in variant.profiles for variant in front)


def test_the_golden_archive_is_complete(run, files):
    """The archive holds 16 inputs of the evaluation set, the float model's answers, and labels, without pickles."""
    _, out, found = run

    with np.load(out / found.golden, allow_pickle=False) as golden, np.load(files.evaluation) as evaluation:
        assert golden["x"].shape == (GOLDEN_SAMPLES, *evaluation["x"].shape[1:])
        assert golden["expected"].shape == (GOLDEN_SAMPLES, tiny_models.CLASSES)
        assert golden["expected"].dtype == np.float32
        assert golden["y"].tolist() == np.argmax(golden["expected"], axis=1).tolist()
        rows = {row.tobytes() for row in evaluation["x"]}
        assert all(row.tobytes() in rows for row in golden["x"])


def test_provenance_names_tools_and_inputs(run, files):
    """Each variant carries the versions and the digests of everything that it was made from."""
    _, _, found = run

    for variant in found.variants:
        assert variant.provenance["calibration_sha256"] == digest_of(files.calibration.read_bytes())
        assert variant.provenance["evaluation_sha256"] == digest_of(files.evaluation.read_bytes())
        assert variant.provenance["seed"] == "0"
        assert "numpy" in variant.provenance


def test_the_table_shows_kept_and_rejected(run):
    """The terminal gets a table per profile, every rejection with its gate, and where the result is."""
    result, out, found = run

    assert all(profile in result.stdout for profile in PROFILES)
    assert "ConvInteger" in result.stdout
    assert all(rejection.recipe in result.stdout for rejection in found.rejections)
    assert str(out / "variants.json") in result.stdout
    assert "static_wi8_ai8-tflite" in result.stderr


def in_another_process(files, out: Path, hash_seed: str) -> VariantSet:
    subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments(files, out)],
        check=True,
        capture_output=True,
        timeout=200,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
    )
    return decode_document(VariantSet, (out / "variants.json").read_bytes())


def test_the_same_inputs_give_the_same_digests(run, files, tmp_path):
    """Another process with another hash seed makes the very same files, golden archive included."""
    _, out, found = run

    again = in_another_process(files, tmp_path / "again", "123")

    assert [(v.name, v.sha256) for v in again.variants] == [(v.name, v.sha256) for v in found.variants]
    assert again.rejections == found.rejections
    assert (tmp_path / "again" / again.golden).read_bytes() == (out / found.golden).read_bytes()


def test_json_is_the_file(files, tmp_path):
    """``--json`` prints what ``variants.json`` holds, and nothing else, on standard output."""
    more = ("--json", "--recipe", "float16", "--name", "my-model")
    result = CliRunner().invoke(
        compress, arguments(files, tmp_path / "out", *more, profiles=["generic-linux"]), catch_exceptions=False
    )

    assert json.loads(result.stdout) == json.loads((tmp_path / "out/variants.json").read_bytes())
    assert json.loads(result.stdout)["model"] == "my-model"
    assert {v["recipe"]["name"] for v in json.loads(result.stdout)["variants"]} == {"float16"}


def test_a_missing_format_is_a_rejection_not_an_error(files, tmp_path):
    """With a ``.tflite`` only, ONNX candidates are refused with what is needed, and the rest is made."""
    out = tmp_path / "out"
    more = ("--recipe", "float32")
    result = CliRunner().invoke(
        compress,
        arguments(files, out, *more, profiles=["raspberry-pi-4", "jetson-nano"], models=[files.tflite]),
        catch_exceptions=False,
    )

    found = decode_document(VariantSet, (out / "variants.json").read_bytes())
    assert result.exit_code == 1
    assert "no variant is left for jetson-nano" in result.stdout
    assert [variant.name for variant in found.variants] == ["float32-tflite"]
    assert {(r.code, r.reason) for r in found.rejections} == {(RejectionCode.RULES, "needs the model as .onnx")}


def test_what_trains_is_a_rejection_without_a_task_file(files, tmp_path):
    """A recipe that trains is refused with the option that it needs, and the rest is made."""
    out = tmp_path / "out"
    more = ("--recipe", "sparse80.static_wi8_ai8", "--recipe", "float32")
    result = CliRunner().invoke(
        compress,
        arguments(files, out, *more, profiles=["raspberry-pi-4"], models=[files.tflite]),
        catch_exceptions=False,
    )

    found = decode_document(VariantSet, (out / "variants.json").read_bytes())
    trains = {(r.code, r.reason) for r in found.rejections if r.recipe == "sparse80.static_wi8_ai8-tflite"}
    assert result.exit_code == 0
    assert [variant.name for variant in found.variants] == ["float32-tflite"]
    assert trains == {(RejectionCode.RULES, "needs a task file (--task)")}


def test_the_accuracy_gate_refuses(files, tmp_path):
    """With no loss allowed, variants that lose anything are refused with the figure."""
    out = tmp_path / "out"
    strict = [*arguments(files, out, "--recipe", "pruned50_static_wi8_ai8", profiles=["raspberry-pi-4"])]
    strict[strict.index("10%")] = "0%"

    result = CliRunner().invoke(compress, strict, catch_exceptions=False)

    found = decode_document(VariantSet, (out / "variants.json").read_bytes())
    assert result.exit_code == 1
    assert found.variants == ()
    assert {rejection.code for rejection in found.rejections} == {RejectionCode.ACCURACY}
    assert all("points; at most 0.00 are allowed" in rejection.reason for rejection in found.rejections)


def test_without_labels_the_gate_bounds_disagreement(files, tmp_path):
    """Unlabelled evaluation data gates on answers that differ from the float model's."""
    out = tmp_path / "out"
    chosen = [
        str(files.folder / "unlabelled.npz") if argument == str(files.evaluation) else argument
        for argument in arguments(files, out, "--recipe", "static_wi8_ai8", profiles=["raspberry-pi-3"])
    ]

    CliRunner().invoke(compress, chosen, catch_exceptions=False)

    found = decode_document(VariantSet, (out / "variants.json").read_bytes())
    assert found.float_accuracy is None
    assert [v.quality.accuracy for v in found.variants] == [None]
    assert found.variants[0].quality.agreement >= 0.9


def test_recipes_that_end_in_the_same_bytes_are_one_variant(files, tmp_path, monkeypatch):
    """Two candidates with one digest become one variant, offered to the profiles of both."""
    from edgepick_host.app import composition

    monkeypatch.setitem(composition.PASSES, "tflite_float16", composition.PASSES["tflite_dynamic_int8"])
    monkeypatch.setattr("edgepick_host.compress.step.parameter", lambda parameters, name, allowed: "per_tensor")
    monkeypatch.setattr(
        "edgepick_host.compress.passes.tflite_dynamic_int8.parameter", lambda parameters, name, allowed: "per_tensor"
    )
    out = tmp_path / "out"
    more = ("--recipe", "float16", "--recipe", "dynamic_wi8_afp32")

    CliRunner().invoke(compress, arguments(files, out, *more, profiles=["raspberry-pi-3"]), catch_exceptions=False)

    found = decode_document(VariantSet, (out / "variants.json").read_bytes())
    assert [variant.name for variant in found.variants] == ["float16-tflite"]
    assert found.rejections == ()


@pytest.mark.parametrize(("text", "share"), [("1%", 0.01), ("1pp", 0.01), ("0.01", 0.01), ("0", 0.0), ("2.5%", 0.025)])
def test_the_drop_can_be_written_three_ways(files, tmp_path, text, share):
    """Per cent, percentage points and a share all mean an absolute drop."""
    out = tmp_path / "out"
    chosen = arguments(files, out, "--recipe", "float32", profiles=["raspberry-pi-3"])
    chosen[chosen.index("10%")] = text

    CliRunner().invoke(compress, chosen, catch_exceptions=False)

    assert decode_document(VariantSet, (out / "variants.json").read_bytes()).max_accuracy_drop == share


@pytest.mark.parametrize("text", ["1", "-1%", "101%", "one", "%", "nan"])
def test_an_unclear_drop_is_asked_back(files, tmp_path, text):
    """A bare 1, which could mean one point or everything, and nonsense are usage errors."""
    chosen = arguments(files, tmp_path / "out", profiles=["raspberry-pi-3"])
    chosen[chosen.index("10%")] = text

    result = CliRunner().invoke(compress, chosen)

    assert result.exit_code == 2
    assert "1%" in result.stderr
    assert not (tmp_path / "out").exists()
