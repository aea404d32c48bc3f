"""Served models whose answers turn bad: NaN, another shape, a runtime that fails."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgepick_agent.core.answers import MOST_BAD_ANSWERS
from edgepick_agent.core.runner_spec import GoldenFile, RunnerMode
from edgepick_agent.ports import RunnerState
from edgepick_wire.manifest import ModelFormat, RuntimeChoice, RuntimeName
from fakes import runtime_models as models
from fakes.runner_outside import ask, until, wait_for

MODELS = {
    "nan": (models.onnx_logarithm, [-1, 1, 1, 1], "output b holds NaN or infinity"),
    "shape": (models.onnx_positions, [0, 1, 1, 1], "output b: the model declares shape [2, 4], found [2, 3]"),
}
GOOD = [1, 1, 1, 1]


@pytest.fixture(params=sorted(MODELS))
def case(request, spec, tmp_path):
    """Provide a specification of a model that answers some inputs badly, such an input, and what is wrong with it."""
    make, bad, said = MODELS[request.param]
    (tmp_path / "model.onnx").write_bytes(make())
    choice = (RuntimeChoice(name=RuntimeName.ONNXRUNTIME),)
    path = str(tmp_path / "model.onnx")
    return replace(spec, model="m", model_path=path, format=ModelFormat.ONNX, runtimes=choice), bad, said


def infer(process, numbers: list[float]) -> tuple[int, dict]:
    asked = {"name": "a", "shape": [1, 4], "datatype": "FP32", "data": numbers}
    return ask(Path(process._spec.socket_path), "POST", "/v2/models/m/infer", {"inputs": [asked]})


def health(process) -> tuple[int, dict]:
    return ask(Path(process._spec.socket_path), "GET", "/v2/health/live")


def test_bad_answers_in_a_row_make_a_failed_runner(start, case):
    """Each client gets an error, never a tensor; after the fifth the runner says that it has failed, and with what."""
    spec, bad, said = case
    process = start.serving(spec)

    answers = [infer(process, bad) for _ in range(MOST_BAD_ANSWERS)]
    seen = wait_for(process, RunnerState.BAD_ANSWERS)
    status, live = health(process)

    assert answers == [(500, {"error": said})] * MOST_BAD_ANSWERS
    assert seen.detail == f"5 answers in a row were bad: {said}"
    assert (status, live["live"], live["bad_answers"]) == (503, False, True)


def test_a_good_answer_between_bad_ones_keeps_a_runner_alive(start, case):
    """A model that cannot answer some requests, but others, serves on, and the agent learns that it answers."""
    spec, bad, _ = case
    process = start.serving(spec)
    silent = process.observe()

    kinds = [infer(process, numbers)[0] for numbers in ([bad] * 4 + [GOOD]) * 3]
    seen = until(lambda: (found := process.observe()).any_good and found, "a good answer is known of")

    assert kinds == ([500] * 4 + [200]) * 3
    assert seen.state is RunnerState.READY
    assert not silent.any_good


def test_a_model_that_does_not_keep_its_declared_shape_fails_its_golden_inputs(start, case, tmp_path):
    """What never had the shape that it declares is found before it is ready, as NaN is."""
    spec, bad, said = case
    x = np.array([bad], np.float32)
    np.savez(tmp_path / "g.npz", x=x, expected=np.zeros((1, 6 if "shape" in said else 4), np.float32))
    lenient = GoldenFile(path=str(tmp_path / "g.npz"), min_agreement=0, max_mean_abs_error=1e38)
    process = start(replace(spec, golden=lenient), RunnerMode.SERVE)

    seen = wait_for(process, RunnerState.EXITED)

    assert seen.exit_code == 1
    assert ("NaN" if "NaN" in said else said) in seen.detail
