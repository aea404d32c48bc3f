"""A candidate beside what runs there, in a real runner process: the order is the coin's, and nothing else suffers."""

from dataclasses import replace

import pytest

from edgepick_agent.core.runner_spec import Beside, measure_deadline_seconds
from edgepick_wire.manifest import ModelFormat, RuntimeChoice, RuntimeName
from edgepick_wire.pairing import PairOrder, quad_order
from fakes.runtime_models import DIGITS, DIGITS_ONNX
from fakes.sensor_trees import AMD_RAPL, plant

RUNNING = "a" * 64
PAIR = PairOrder(against=RUNNING, key="r-1", quads=6, block_runs=5, dropped_runs=2)
ONNX = (RuntimeChoice(name=RuntimeName.ONNXRUNTIME),)


@pytest.fixture
def beside(spec) -> Beside:
    """Provide the demo model as what runs on the device."""
    return Beside(model_path=str(DIGITS), format=ModelFormat.TFLITE, runtimes=spec.runtimes, device="pi-1", pair=PAIR)


def test_every_quad_has_four_blocks_in_the_order_of_the_coin(start, spec, golden, beside):
    """The measurement is there as ever, and with it all quads, each with four latencies in the coin's order."""
    result, ended = start.measured(replace(spec, golden=golden, beside=beside))

    found = result.measurement
    assert ended.exit_code == 0
    assert found.latency.runs >= 60
    assert (found.paired.against, found.paired.key, found.paired.block_runs) == (RUNNING, "r-1", 5)
    assert [quad.index for quad in found.paired.quads] == list(range(6))
    assert [quad.order for quad in found.paired.quads] == [quad_order("r-1", "pi-1", n) for n in range(6)]
    assert all(len(quad.latency_ns) == 4 and min(quad.latency_ns) > 0 for quad in found.paired.quads)


def test_a_counter_that_stands_still_gives_quads_without_energy(start, spec, beside, tmp_path):
    """Energy of nothing is missing, never zero; the quads have their latencies all the same."""
    root = plant(tmp_path / "amd", AMD_RAPL)
    pair = replace(PAIR, quads=1)

    result, _ = start.measured(replace(spec, sysfs_root=str(root), beside=replace(beside, pair=pair)))

    (quad,) = result.measurement.paired.quads
    assert quad.energy_uj == ()
    assert len(quad.latency_ns) == 4


def test_two_runtimes_are_compared_in_one_process(start, spec, beside):
    """What runs there may be of another format and runtime than the candidate."""
    other = replace(beside, model_path=str(DIGITS_ONNX), format=ModelFormat.ONNX, runtimes=ONNX)

    result, _ = start.measured(replace(spec, beside=other))

    assert len(result.measurement.paired.quads) == 6
    assert result.measurement.runtime.name == "litert"


def test_what_cannot_be_loaded_costs_the_comparison_and_nothing_else(start, spec, tmp_path, beside):
    """If what runs there cannot be loaded, the measurement stands, without quads and with the reason."""
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"no model")

    result, ended = start.measured(replace(spec, beside=replace(beside, model_path=str(broken))))

    assert ended.exit_code == 0
    assert result.measurement.paired is None
    assert "broken.tflite" in result.measurement.extra["unpaired"]


def test_the_comparison_ends_when_its_time_is_over(start, spec, beside):
    """With no time left after the first quad, the report holds that one, and the deadline has room for the rest."""
    plan = replace(spec.plan, max_seconds=0.01, min_seconds=0, min_runs=5)
    many = replace(beside, pair=replace(PAIR, quads=500, block_runs=50))

    result, _ = start.measured(replace(spec, plan=plan, beside=many))

    assert 1 <= len(result.measurement.paired.quads) < 500
    assert measure_deadline_seconds(replace(spec, beside=beside)) > measure_deadline_seconds(spec)
