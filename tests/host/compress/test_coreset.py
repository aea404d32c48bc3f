"""Choosing few samples that stand for many."""

from itertools import combinations

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgepick_host.cli.compress import compress
from edgepick_host.compress.coreset import CoresetMethod, calibration_coreset, choose
from edgepick_host.compress.dataset import load_dataset
from edgepick_host.compress.features import features_of
from edgepick_host.core.variants import VariantSet
from edgepick_host.errors import CompressionError
from edgepick_wire.codec import decode_document

POINTS = arrays.arrays(
    np.float32,
    st.tuples(st.integers(2, 9), st.integers(1, 3)),
    elements=st.integers(-5, 5).map(np.float32),
)


@given(POINTS, st.data(), st.sampled_from(CoresetMethod), st.integers(0, 5))
def test_any_choice_is_so_many_different_samples_and_always_the_same(points, data, method, seed):
    """As many indices as asked for, each once, ascending, of the samples; equal for the same seed."""
    count = data.draw(st.integers(1, len(points)))
    groups = data.draw(arrays.arrays(np.int64, len(points), elements=st.integers(0, 3)))

    chosen = choose(points, groups, count, method, seed)

    assert len(chosen) == count
    assert chosen == sorted(set(chosen))
    assert 0 <= min(chosen) <= max(chosen) < len(points)
    assert choose(points, groups, count, method, seed) == chosen


@given(POINTS, st.data())
def test_the_farthest_first_choice_is_at_most_twice_as_far_as_the_best(points, data):
    """No sample is more than twice as far from its nearest chosen one as with the best choice of so many."""
    count = data.draw(st.integers(1, min(4, len(points))))
    spread = points.std(axis=0)
    scaled = (points - points.mean(axis=0)) / np.where(spread > 0, spread, 1)

    def radius(chosen) -> float:
        distances = np.linalg.norm(scaled[:, None] - scaled[list(chosen)][None], axis=2)
        return float(distances.min(axis=1).max())

    found = radius(choose(points, np.zeros(len(points), np.int64), count, CoresetMethod.K_CENTER, 0))

    best = min(radius(chosen) for chosen in combinations(range(len(points)), count))
    assert found <= 2 * best + 1e-4


@given(arrays.arrays(np.int64, st.integers(1, 30), elements=st.integers(0, 4)), st.data())
def test_the_stratified_choice_keeps_the_shares_of_the_classes(groups, data):
    """Each class has its share of the chosen samples, to within one sample."""
    count = data.draw(st.integers(1, len(groups)))

    chosen = choose(np.zeros((len(groups), 1), np.float32), groups, count, CoresetMethod.STRATIFIED, 0)

    for group in np.unique(groups):
        ideal = np.sum(groups == group) * count / len(groups)
        assert abs(np.sum(groups[chosen] == group) - ideal) < 1


def test_clusters_get_one_sample_each():
    """Of three far-off heaps, k-means chooses one sample in each."""
    rng = np.random.default_rng(0)
    heaps = np.concatenate([rng.normal(centre, 0.01, (20, 2)) for centre in (0, 10, 20)]).astype(np.float32)

    chosen = choose(heaps, np.zeros(60, np.int64), 3, CoresetMethod.K_MEANS, 1)

    assert [index // 20 for index in chosen] == [0, 1, 2]


def test_features_are_what_the_last_layer_reads_in_both_formats(files, tflite_source, onnx_source):
    """The two forms of one network show the same features, one number per channel of its last convolution."""
    data = load_dataset(files.calibration)

    one, other = features_of(tflite_source, data), features_of(onnx_source, data)

    assert one.values.shape == (40, 4)
    assert one.values == pytest.approx(other.values, abs=1e-4)
    assert one.groups.tolist() == other.groups.tolist()


def test_a_coreset_is_a_dataset_of_the_chosen_samples(files, tflite_source):
    """Samples keep their order; asking for more than there are gives all; none at all is refused."""
    data = load_dataset(files.evaluation)

    few, all_of_them = calibration_coreset(data, tflite_source, 8), calibration_coreset(data, tflite_source, 500)

    where = [int(np.flatnonzero((data.arrays["x"] == x).all(axis=(1, 2, 3)))[0]) for x in few.arrays["x"]]
    assert len(few) == 8
    assert where == sorted(where)
    assert few.labels is not None
    assert few.labels.tolist() == data.labels[where].tolist()
    assert len(all_of_them) == len(data)
    with pytest.raises(CompressionError, match="at least one"):
        calibration_coreset(data, tflite_source, 0)


@pytest.mark.parametrize("method", [str(method.value) for method in CoresetMethod])
def test_a_compression_calibrates_on_the_chosen_samples(files, tmp_path, method):
    """--calibration-samples N --coreset METHOD: the variant says how many, and twice the same gives the same file."""
    common = [str(files.tflite), "--profile=mcu-cortex-m4", "--recipe=static_wi8_ai8", "--workers=1", "--no-cache"]
    data = [f"--calibration={files.calibration}", f"--evaluation={files.evaluation}", "--max-accuracy-drop=20%"]
    chosen = ["--calibration-samples=8", f"--coreset={method}"]
    results = []
    for name in ("one", "two"):
        CliRunner().invoke(compress, [*common, *data, *chosen, f"--out={tmp_path / name}"], catch_exceptions=False)
        results.append(decode_document(VariantSet, (tmp_path / name / "variants.json").read_bytes()))

    (first,), (second,) = results[0].variants, results[1].variants
    assert first.provenance["calibration_samples"] == "8"
    assert first.sha256 == second.sha256
