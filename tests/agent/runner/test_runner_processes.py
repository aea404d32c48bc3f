"""Runner processes from outside: killed, hung, over memory, orphaned, long paths, chatter."""

import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgepick_agent.adapters import runner_process
from edgepick_agent.adapters.clock import SystemClock
from edgepick_agent.adapters.runner_look import Health, is_stopped, memory_of, parse_health
from edgepick_agent.adapters.runner_process import Launcher
from edgepick_agent.core.runner_spec import GoldenFile, RunnerMode
from edgepick_agent.ports import RunnerState
from edgepick_agent.runner import serve
from edgepick_wire import codec
from edgepick_wire.manifest import ModelFormat, RunLimits, RuntimeChoice, RuntimeName
from fakes import runtime_models as models
from fakes.runner_outside import PATIENCE_SECONDS, UnixHttp, ask, is_gone, until, wait_for

ONNX = (RuntimeChoice(name=RuntimeName.ONNXRUNTIME),)


def test_a_serving_runner_becomes_ready(start, spec):
    """It starts, becomes ready, tells its memory, and answers on its socket."""
    process, seen = start(spec, RunnerMode.SERVE), []

    until(lambda: seen.append(process.observe()) or seen[-1].state is RunnerState.READY, "ready")

    assert {look.state for look in seen[:-1]} <= {RunnerState.STARTING}
    assert seen[-1].rss_bytes > 10 << 20
    assert ask(Path(process._spec.socket_path), "GET", "/v2/health/live")[0] == 200


@pytest.mark.usefixtures("unobserved")
def test_a_serving_runner_holds_no_cryptography(start, spec):
    """It has no network and hashes nothing, so OpenSSL, some 3 MiB of every runner, is not in it."""
    process = start(spec, RunnerMode.SERVE)
    wait_for(process, RunnerState.READY)

    mapped = Path(f"/proc/{process.pid}/maps").read_text()

    assert "numpy" in mapped
    assert [name for name in ("libssl", "libcrypto", "_ssl.", "_hashlib.") if name in mapped] == []


@pytest.mark.parametrize("mode", [RunnerMode.SERVE, RunnerMode.MEASURE])
def test_a_killed_runner_has_exited(start, spec, mode, tmp_path):
    """SIGKILL from anyone shows as an exit with its signal; a measurement then has no result."""
    (tmp_path / "endless.onnx").write_bytes(models.onnx_endless())
    endless = replace(spec, model_path=str(tmp_path / "endless.onnx"), format=ModelFormat.ONNX, runtimes=ONNX)
    process = start(endless, mode)
    wait_for(process, RunnerState.READY)

    os.kill(process.pid, signal.SIGKILL)
    seen = wait_for(process, RunnerState.EXITED)

    assert (seen.exit_code, seen.rss_bytes) == (-signal.SIGKILL, None)
    assert "SIGKILL" in seen.detail
    assert process.result() is None


def test_however_many_clients_are_connected_the_agent_is_answered(start, spec):
    """With as many connections as a runner takes, and further ones turned away, its health is still known."""
    process = start.serving(spec)
    clients = [UnixHttp(Path(process._spec.socket_path)) for _ in range(serve.MOST_CONNECTIONS)]
    for client in clients:
        client.request("GET", "/v2/health/live")
        assert client.getresponse().read()

    with pytest.raises(ConnectionError):
        ask(Path(process._spec.socket_path), "GET", "/v2/health/live")
    health = until(process._probe.look, "an answer to the agent")
    for client in clients:
        client.close()

    assert health.ready


def test_an_inference_over_its_limit_is_a_hang(start, spec, tmp_path):
    """While an inference exceeds its limit the server says so itself, and it is seen as hung."""
    (tmp_path / "endless.onnx").write_bytes(models.onnx_endless())
    process = start.serving(
        replace(
            spec,
            model_path=str(tmp_path / "endless.onnx"),
            format=ModelFormat.ONNX,
            runtimes=ONNX,
            limits=RunLimits(inference_seconds=0.2, start_seconds=PATIENCE_SECONDS),
        )
    )
    path = Path(process._spec.socket_path)
    tensor = {"name": "a", "shape": [1], "datatype": "FP32", "data": [1]}
    with_request = [sys.executable, "-c", _post(path, "digits", {"inputs": [tensor]})]
    client = subprocess.Popen(with_request)

    seen = wait_for(process, RunnerState.HUNG)
    live = ask(path, "GET", "/v2/health/live")
    process.stop(grace_seconds=0)

    assert "longer than 0.2 s" in seen.detail
    assert live == (503, {"live": False, "error": "an inference has taken longer than 0.2 s"})
    assert client.wait(PATIENCE_SECONDS) != 0


def _post(path: Path, model: str, document: dict) -> str:
    """Return a program that posts one request and fails if the connection breaks."""
    return textwrap.dedent(f"""
        import json, os, socket
        s = socket.socket(socket.AF_UNIX)
        os.chdir({str(path.parent)!r})
        s.connect({path.name!r})
        body = json.dumps({document!r}).encode()
        head = "POST /v2/models/{model}/infer HTTP/1.1\\r\\nHost: x\\r\\n"
        s.sendall(head.encode() + b"Content-Length: %d\\r\\n\\r\\n" % len(body) + body)
        raise SystemExit(0 if s.recv(1) else 1)
    """)


def test_a_runner_over_its_memory_cap_is_seen(start, spec):
    """More resident memory than the cap, even for a moment, is told with both figures."""
    process = start(replace(spec, limits=RunLimits(peak_rss_bytes=1 << 20)), RunnerMode.SERVE)

    seen = wait_for(process, RunnerState.OVER_MEMORY)

    assert seen.rss_bytes is not None
    assert f"the cap is {1 << 20}" in seen.detail


def test_a_peak_between_two_looks_is_seen():
    """Memory that was used and given back still shows, by the process's high-water mark."""
    program = "b = bytearray(200 << 20); b[:] = b'x' * len(b); del b; print('done', flush=True); input()"
    child = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()

    memory = memory_of(child.pid)
    child.communicate(b"\n", timeout=PATIENCE_SECONDS)

    assert memory.now < 100 << 20 < memory.peak


def test_a_process_that_is_gone_has_no_memory():
    """Looking at a process that has ended is no error."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait(PATIENCE_SECONDS)

    assert memory_of(child.pid) is None
    assert not is_stopped(child.pid)


def test_a_model_that_fails_its_golden_inputs_is_never_served(start, spec, wrong_golden):
    """The runner ends without having been ready, and its last words say why."""
    process = start(replace(spec, golden=wrong_golden), RunnerMode.SERVE)
    states = []

    def ended():
        states.append(process.observe())
        return states[-1].state is RunnerState.EXITED

    until(ended, "exit")

    assert RunnerState.READY not in {seen.state for seen in states}
    assert states[-1].exit_code == 1
    assert "digits.tflite fails its golden inputs" in states[-1].detail


def test_a_model_that_passes_its_golden_inputs_is_served(start, spec, golden):
    """With a passed self-test it becomes ready."""
    assert start.serving(replace(spec, golden=golden)).observe().state is RunnerState.READY


def logarithm(spec, folder: Path, sign: int, width: int = 4):
    """Return a runner of a logarithm whose golden inputs are all 1 or all -1, and expect ``width`` zeros."""
    (folder / "log.onnx").write_bytes(models.onnx_logarithm())
    np.savez(folder / "g.npz", x=np.full((3, 4), sign, np.float32), expected=np.zeros((3, width), np.float32))
    lenient = GoldenFile(path=str(folder / "g.npz"), min_agreement=0, max_mean_abs_error=1e38)
    model = {"model": "m", "model_path": str(folder / "log.onnx"), "format": ModelFormat.ONNX, "runtimes": ONNX}
    return replace(spec, golden=lenient, **model)


@pytest.mark.parametrize(("inputs", "said"), [((-1, 4), "NaN"), ((1, 5), "the model gives 4")], ids=["nan", "shape"])
def test_a_model_that_answers_nan_or_another_shape_is_never_served(start, spec, tmp_path, inputs, said):
    """However lenient its tolerances are, a runner ends before it is ready, and says what was wrong."""
    process = start(logarithm(spec, tmp_path, *inputs), RunnerMode.SERVE)
    seen = []

    until(lambda: seen.append(process.observe()) or seen[-1].state is RunnerState.EXITED, "the end")

    assert RunnerState.READY not in {each.state for each in seen}
    assert said in seen[-1].detail


def test_a_served_model_that_answers_nan_says_so_and_serves_on(start, spec, tmp_path):
    """Where a request of a sound variant leads to NaN, that client gets an error, and the next one its answer."""
    process = start.serving(logarithm(spec, tmp_path, 1))

    def infer(*numbers: float) -> tuple[int, dict]:
        asked = {"name": "a", "shape": [1, 4], "datatype": "FP32", "data": numbers}
        return ask(Path(process._spec.socket_path), "POST", "/v2/models/m/infer", {"inputs": [asked]})

    refused, said = infer(-1, 1, 1, 1)
    answered, found = infer(1, 1, 1, 1)

    assert (refused, said) == (500, {"error": "output b holds NaN or infinity"})
    assert (answered, found["outputs"][0]["data"]) == (200, [0, 0, 0, 0])
    assert process.observe().state is RunnerState.READY


def test_a_model_that_cannot_be_served_says_why(start, spec, tmp_path):
    """The last line on standard error is the detail, and the failure is written down too."""
    (tmp_path / "broken.tflite").write_bytes(b"hello, this is no model")
    process = start(replace(spec, model_path=str(tmp_path / "broken.tflite")), RunnerMode.SERVE)

    seen = wait_for(process, RunnerState.EXITED)

    assert seen.exit_code == 1
    assert "broken.tflite is not a TensorFlow Lite model" in seen.detail
    assert process.result().failure.code == "model-load"


def test_sigterm_ends_a_server_cleanly(start, spec):
    """Told to stop it exits with 0 within the grace and takes its socket with it."""
    process = start.serving(spec)
    path = Path(process._spec.socket_path)

    os.kill(process.pid, signal.SIGTERM)
    seen = wait_for(process, RunnerState.EXITED)

    assert seen.exit_code == 0
    assert not path.exists()


@pytest.mark.parametrize("mode", list(RunnerMode))
def test_stopping_ends_even_a_stopped_process(start, spec, mode):
    """A runner that does not react to SIGTERM is killed after the grace, and its folder is gone."""
    process = start(spec, mode)
    os.kill(process.pid, signal.SIGSTOP)

    process.stop(grace_seconds=0.05)

    assert is_gone(process.pid)
    assert not process._folder.exists()
    assert process.observe().state is RunnerState.EXITED
    process.stop()


def test_a_result_outlives_its_folder(start, spec):
    """After stop() the result of a measurement can still be asked for."""
    process = start(spec, RunnerMode.MEASURE)
    wait_for(process, RunnerState.EXITED)

    process.stop()

    assert process.result().measurement is not None


def test_a_runner_does_not_outlive_the_agent(spec, tmp_path):
    """When the process that launched it is killed, the runner dies with it."""
    (tmp_path / "spec.json").write_bytes(codec.encode_document(spec))
    program = textwrap.dedent(f"""
        import sys, time
        from pathlib import Path
        from edgepick_agent import app
        from edgepick_agent.core.runner_spec import RunnerMode, RunnerSpec
        from edgepick_wire import codec
        class Clock:
            monotonic = now = staticmethod(time.monotonic)
        spec = codec.decode_document(RunnerSpec, Path({str(tmp_path / "spec.json")!r}).read_bytes())
        runner = app.launcher(None, Path({str(tmp_path / "work")!r}), Clock()).start(spec, RunnerMode.SERVE)
        while runner.observe().state != "ready":
            time.sleep(0.01)
        print(runner.pid, flush=True)
        sys.stdin.read()
    """)
    agent = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert agent.stdout is not None
    pid = int(agent.stdout.readline())
    alive = not is_gone(pid)

    agent.kill()
    agent.communicate(timeout=PATIENCE_SECONDS)

    assert alive
    until(lambda: is_gone(pid), "end of the orphan")


def test_a_runner_whose_agent_is_already_gone_ends_at_once(spec, tmp_path):
    """Started for a parent that is not its own, it leaves before it loads anything."""
    (tmp_path / "spec.json").write_bytes(codec.encode_document(replace(spec, parent_pid=1)))
    command = [sys.executable, "-m", "edgepick_agent.runner", "serve", str(tmp_path / "spec.json")]

    done = subprocess.run(command, timeout=PATIENCE_SECONDS, check=False, capture_output=True)

    assert done.returncode == 1


def test_a_runner_is_a_group_of_its_own_without_input(start, spec):
    """A terminal's Ctrl-C reaches the agent only, and standard input is closed."""
    process = start.serving(spec)

    assert os.getpgid(process.pid) == process.pid != os.getpgid(0)
    assert Path(f"/proc/{process.pid}/fd/0").resolve() == Path("/dev/null")


def test_a_socket_may_lie_deeper_than_an_address_holds(start, spec, tmp_path):
    """A path of more than 107 bytes works for server and health check."""
    folder = tmp_path / ("a" * 60) / ("b" * 60)
    folder.mkdir(parents=True)

    process = start.serving(replace(spec, socket_path=str(folder / "infer.sock")))

    assert len(process._spec.socket_path) > 107
    assert ask(folder / "infer.sock", "GET", "/v2")[0] == 200


def test_only_the_owner_and_group_may_use_the_socket(start, spec):
    """Other users of the machine cannot ask for inference."""
    process = start.serving(spec)

    assert Path(process._spec.socket_path).stat().st_mode & 0o777 == 0o660


def test_chatter_on_standard_error_is_bounded(start, spec):
    """A runner that writes without end does not fill the disk."""
    process = start.serving(spec)
    log = process._folder / "stderr.log"
    with log.open("ab") as file:
        file.write(b"x" * (runner_process.MAX_LOG_BYTES + 1))

    process.observe()

    assert log.stat().st_size == 0


def test_a_runner_is_looked_at_although_its_output_cannot_be_cut(start, spec, monkeypatch):
    """Storage that became read-only does not keep the agent from seeing that the runner serves."""
    process = start(spec, RunnerMode.SERVE)
    wait_for(process, RunnerState.READY)
    monkeypatch.setattr(runner_process, "MAX_LOG_BYTES", -1)
    monkeypatch.setattr(os, "truncate", lambda *_: os.close(-1))

    seen = process.observe()

    assert seen.state is RunnerState.READY


def test_leftovers_of_an_earlier_agent_are_cleared(tmp_path):
    """A launcher begins with an empty folder of runners."""
    old = tmp_path / "runners" / "1-serve-digits"
    old.mkdir(parents=True)

    Launcher(None, tmp_path, SystemClock())

    assert not old.exists()


def test_an_interpreter_that_is_not_there_is_an_os_error(spec, tmp_path):
    """A wrong path in the configuration is told at the start, not swallowed."""
    with pytest.raises(OSError, match="nowhere"):
        Launcher("/nowhere/python", tmp_path, SystemClock()).start(spec, RunnerMode.SERVE)


def test_only_our_packages_are_on_the_runners_path(tmp_path):
    """The path holds edgepick's two packages and nothing that another interpreter could stumble over."""
    environment = runner_process.runner_environment(tmp_path)

    assert sorted(p.name for p in Path(environment["PYTHONPATH"]).iterdir()) == ["edgepick_agent", "edgepick_wire"]
    assert runner_process.runner_environment(tmp_path) == environment


def test_launching_costs_the_agent_no_runtime_and_no_numpy():
    """Importing the launcher imports neither numpy nor a runtime nor an HTTP server."""
    program = (
        "import sys, edgepick_agent.adapters.runner_process;"
        "print(sorted({'numpy','ai_edge_litert','onnxruntime','http.server','asyncio','psutil'} & set(sys.modules)))"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("reply", "health"),
    [
        (b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n{}", Health(live=True, ready=True)),
        (b'HTTP/1.1 503 X\r\n\r\n{"live": true, "error": "e"}', Health(live=True, ready=False, detail="e")),
        (b'HTTP/1.1 503 X\r\n\r\n{"live": false}', Health(live=False, ready=False)),
        (b"HTTP/1.1 503 X\r\n\r\n[]", None),
        (b"HTTP/1.1 200 OK\r\n\r\n[]", None),
        (b'HTTP/1.1 200 OK\r\n\r\n{"answered": true}', Health(live=True, ready=True, answered=True)),
        (
            b'HTTP/1.1 503 X\r\n\r\n{"live": false, "bad_answers": true}',
            Health(live=False, ready=False, bad_answers=True),
        ),
        (b"HTTP/1.1 500 X\r\n\r\n<html>", None),
        (b"", None),
    ],
)
def test_only_a_health_answer_counts_as_one(reply, health):
    """Ready, not ready and overdue are told apart; anything else is no answer."""
    assert parse_health(reply) == health
