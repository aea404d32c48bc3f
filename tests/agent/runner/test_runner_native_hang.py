"""Runners that never come back from native code, with and without Python's lock, while they serve and retire."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from edgepick_agent import app
from edgepick_agent.adapters.clock import SystemClock
from edgepick_agent.client import Client
from edgepick_agent.core.runner_spec import RunnerMode, ServeLimits
from edgepick_agent.ports import RunnerState
from edgepick_wire.manifest import ModelFormat, RunLimits, RuntimeChoice, RuntimeName
from fakes import runtime_models as models
from fakes.odd_python import STUCK, STUCK_WITH_THE_LOCK, odd_python
from fakes.runner_outside import PATIENCE_SECONDS, ask, is_gone, until, wait_for
from fakes.swapping import Swapping

IMAGE = np.zeros((1, 32, 32, 1), np.float32)
NEVER = 2**62
LIMITS = RunLimits(inference_seconds=1, start_seconds=PATIENCE_SECONDS)


@pytest.fixture
def stuck(tmp_path):
    """Provide the interpreter of runners that get stuck with the lock on an input that begins with STUCK."""
    return odd_python(tmp_path / "odd", STUCK_WITH_THE_LOCK)


def looping(spec, folder):
    """Return the specification of a model that runs as long as a request says."""
    (folder / "loop.onnx").write_bytes(models.onnx_as_long_as_told())
    return replace(
        spec,
        model_path=str(folder / "loop.onnx"),
        format=ModelFormat.ONNX,
        runtimes=(RuntimeChoice(name=RuntimeName.ONNXRUNTIME),),
        limits=LIMITS,
        serve_limits=ServeLimits(queue_seconds=1),
    )


def negated(times: int) -> dict[str, np.ndarray]:
    return {"a": np.ones(1, np.float32), "often": np.array(times, np.int64)}


def lost(swapping: Swapping, inputs: dict[str, np.ndarray]) -> str:
    """Return what becomes of a request that gets its runner stuck: sent once, and never again."""
    tensors = [
        {"name": name, "shape": list(array.shape), "datatype": kind, "data": array.ravel().tolist()}
        for (name, array), kind in zip(inputs.items(), ("FP32", "INT64"), strict=False)
    ]
    try:
        status, _ = ask(swapping.path, "POST", f"/v2/models/{swapping.model}/infer", {"inputs": tensors})
    except (OSError, ValueError) as error:
        return type(error).__name__
    return str(status)


def test_a_retiring_runner_that_is_stuck_ends_and_others_are_answered_at_once(tmp_path, spec):
    """While it waits for an inference without end its successor answers; in time it ends, with the one it cannot."""
    swapping = Swapping(tmp_path, looping(spec, tmp_path))
    swapping.swap()
    with ThreadPoolExecutor(1) as pool, Client("digits", path=swapping.path) as client:
        asked = pool.submit(lost, swapping, negated(NEVER))
        until(lambda: next(iter(swapping.look().values())).observation.state is RunnerState.HUNG, "it is stuck")

        swapping.swap()
        found, early = client.infer(negated(3)), asked.done()
        until(lambda: swapping.look() and is_gone(swapping.pids[0]), "the stuck one is gone")
        fate = asked.result()
    swapping.close()

    assert found["b"].tolist() == [-1]
    assert not early
    assert "200" not in fate


def test_clients_of_a_retiring_runner_that_is_stuck_with_the_lock_get_to_its_successor(tmp_path, spec, stuck):
    """It cannot even hear that it retires: new clients never meet it, and it is killed when its time is over."""
    swapping = Swapping(tmp_path, replace(spec, limits=LIMITS), python=stuck, retire_seconds=3)
    swapping.swap()
    kept = Client("digits", path=swapping.path, timeout=PATIENCE_SECONDS)
    expected = kept.infer(IMAGE)
    poison = IMAGE.copy()
    poison.flat[0] = STUCK
    with ThreadPoolExecutor(2) as pool:
        asked = pool.submit(lost, swapping, {kept.metadata()["inputs"][0]["name"]: poison})
        until(lambda: next(iter(swapping.look().values())).observation.state is RunnerState.HUNG, "it is stuck")
        waiting = pool.submit(kept.infer, IMAGE)

        swapping.swap()
        with Client("digits", path=swapping.path) as new:
            found, early = new.infer(IMAGE), waiting.done()
        until(lambda: swapping.look() and is_gone(swapping.pids[0]), "the stuck one is gone")
        answered, fate = waiting.result(), asked.result()
    kept.close()
    swapping.close()

    assert not early
    assert [each.tolist() for each in found.values()] == [each.tolist() for each in expected.values()]
    assert [each.tolist() for each in answered.values()] == [each.tolist() for each in expected.values()]
    assert "200" not in fate


def test_a_serving_runner_that_is_stuck_with_the_lock_is_a_hang_and_can_be_ended(tmp_path, spec, stuck):
    """It answers no health check; that is seen, and it goes although it hears no signal."""
    launcher = app.launcher(stuck, tmp_path / "work", SystemClock())
    process = launcher.start(replace(spec, limits=LIMITS), RunnerMode.SERVE)
    wait_for(process, RunnerState.READY)
    poison = IMAGE.copy()
    poison.flat[0] = STUCK
    with ThreadPoolExecutor(1) as pool, Client("digits", path=process._spec.socket_path) as client:
        asked = pool.submit(client.infer, poison)

        seen = wait_for(process, RunnerState.HUNG)
        process.stop()
        failed = asked.exception(PATIENCE_SECONDS)

    assert "no answer to its health check" in seen.detail
    assert is_gone(process.pid)
    assert isinstance(failed, OSError)
