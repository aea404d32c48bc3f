"""A runner that is shut in serves and measures its model, and reaches nothing else; all with the real kernel."""

import ctypes
import json
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgepick_agent import app
from edgepick_agent.adapters.clock import SystemClock
from edgepick_agent.adapters.runner_process import runner_environment
from edgepick_agent.client import Client
from edgepick_agent.core.runner_spec import RunnerMode
from edgepick_agent.core.settings import Sandbox
from edgepick_agent.errors import RunError
from edgepick_agent.ports import RunnerState
from edgepick_agent.runner import sandbox
from edgepick_wire import codec
from edgepick_wire.manifest import ModelFormat, RuntimeChoice, RuntimeName
from fakes.runner_outside import wait_for
from fakes.runtime_models import DIGITS_ONNX

PROBE = """
import json, os, socket, sys, threading
from pathlib import Path
from edgepick_agent.core.runner_spec import RunnerSpec
from edgepick_agent.runner.sandbox import shut_in
from edgepick_wire import codec
spec = codec.decode_document(RunnerSpec, Path(sys.argv[1]).read_bytes())
found = {"gaps": shut_in(spec)}
def tried(name, what):
    try:
        what()
        found[name] = "done"
    except OSError as error:
        found[name] = type(error).__name__
def connect(path):
    socket.socket(socket.AF_UNIX).connect(path)
secret, listening, outside = sys.argv[2:]
tried("secret", lambda: Path(secret).read_bytes())
tried("passwd", lambda: Path("/etc/passwd").read_bytes())
tried("list", lambda: os.listdir(Path(secret).parent))
tried("write outside", lambda: Path(outside).write_bytes(b"x"))
def child():
    if os.system(f"cat {secret} >/dev/null 2>&1"):
        raise PermissionError
tried("child", child)
tried("tcp", lambda: socket.socket(socket.AF_INET))
tried("udp", lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
tried("datagram", lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
tried("other's socket", lambda: connect(listening))
thread = threading.Thread(target=lambda: tried("in a thread", lambda: socket.socket(socket.AF_INET)))
thread.start(); thread.join()
tried("model", lambda: Path(spec.model_path).read_bytes())
tried("own file", lambda: Path("own").write_bytes(b"x"))
print(json.dumps(found))
"""
ELSEWHERE = f"""#!{sys.executable}
import platform, runpy, sys
platform.machine = lambda: "s390x"
sys.argv = sys.argv[2:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
"""An interpreter on a machine that the filter does not know."""
landlock = pytest.mark.skipif(
    ctypes.CDLL(None).syscall(sandbox.CREATE_RULESET, None, ctypes.c_size_t(0), sandbox.VERSION_FLAG) < 1,
    reason="this kernel has no Landlock",
)


@pytest.fixture
def shut(spec):
    """Provide a specification that wants to be shut in."""
    return replace(spec, sandbox=Sandbox.REQUIRED, sysfs_root="/")


def probed(folder: Path, spec) -> dict[str, str]:
    """Return how attempts to reach out end in a process that has shut itself in as a runner does."""
    (own := folder / "own").mkdir()
    (secret := folder / "agent.key").write_text("secret")
    (file := own / "spec.json").write_bytes(codec.encode_document(spec))
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "control.sock"))
        listening.listen()
        done = subprocess.run(
            [sys.executable, "-c", PROBE, str(file), str(secret), str(folder / "control.sock"), str(folder / "new")],
            env=runner_environment(folder),
            cwd=own,
            capture_output=True,
            check=False,
            timeout=60,
        )
    assert done.returncode == 0, done.stderr.decode()
    return dict(json.loads(done.stdout))


@landlock
def test_who_is_shut_in_reaches_neither_files_nor_sockets(tmp_path, shut):
    """The agent's key, the accounts, other folders, the network and the agent's own socket are out of reach."""
    found = probed(tmp_path, shut)

    assert found.pop("gaps") == ""
    assert (found.pop("model"), found.pop("own file")) == ("done", "done")
    assert len(found) == 10
    assert set(found.values()) == {"PermissionError"}
    assert not (tmp_path / "new").exists()


def test_who_is_not_shut_in_reaches_all_of_it(tmp_path, spec):
    """The same attempts succeed without: what refuses them is the sandbox."""
    found = probed(tmp_path, spec)

    assert {how for name, how in found.items() if name != "gaps"} == {"done"}


@landlock
@pytest.mark.parametrize("model", ["tflite", "onnx"])
def test_a_runner_that_is_shut_in_serves(tmp_path, shut, start, golden, model):
    """It passes its golden inputs and answers; and the kernel confirms the filter."""
    if model == "onnx":
        choice = RuntimeChoice(name=RuntimeName.ONNXRUNTIME)
        shut = replace(shut, model_path=str(DIGITS_ONNX), format=ModelFormat.ONNX, runtimes=(choice,))
    else:
        shut = replace(shut, golden=golden)
    (tmp_path / "run").mkdir()
    shut = replace(shut, socket_path=str(tmp_path / "run/s.sock"))

    process = start.serving(shut)

    with Client("digits", path=shut.socket_path) as client:
        taken = client.metadata()["inputs"][0]
        answered = client.infer({taken["name"]: np.zeros([abs(n) for n in taken["shape"]], np.float32)})
    status = Path(f"/proc/{process.pid}/status").read_text().split()
    assert answered
    assert status[status.index("Seccomp:") + 1] == "2"
    assert status[status.index("NoNewPrivs:") + 1] == "1"


@landlock
def test_a_runner_that_is_shut_in_measures(shut, start, golden):
    """The measurement is the same in kind: memory, board and golden inputs are all seen from within."""
    result, ended = start.measured(replace(shut, golden=golden))

    assert ended.exit_code == 0, ended.detail
    assert result.measurement.golden.passed
    assert result.measurement.memory.peak_rss_bytes
    assert result.measurement.conditions is not None


@landlock
def test_a_runner_says_how_it_is_not_shut_in(shut, tmp_path):
    """Where there is no filter for the machine, "auto" serves and says so to whoever looks."""
    (python := tmp_path / "python").write_text(ELSEWHERE)
    python.chmod(0o755)
    launcher = app.launcher(str(python), tmp_path / "work", SystemClock())

    process = launcher.start(replace(shut, sandbox=Sandbox.AUTO), RunnerMode.SERVE)
    try:
        seen = wait_for(process, RunnerState.READY)
    finally:
        process.stop(grace_seconds=0)
        launcher.close()

    assert seen.detail == "it reaches the network: no filter for s390x"


def test_required_means_that_no_model_runs_otherwise(shut, monkeypatch):
    """With "required", a kernel that cannot shut a runner in is an error with what to do; with "auto" a sentence."""
    monkeypatch.setattr(sandbox, "_hide_files", lambda _spec: "")
    monkeypatch.setattr(sandbox.platform, "machine", lambda: "s390x")

    with pytest.raises(RunError, match="no filter for s390x") as refused:
        sandbox.shut_in(shut)

    assert "auto" in refused.value.hint
    assert "s390x" in sandbox.shut_in(replace(shut, sandbox=Sandbox.AUTO))
    assert sandbox.shut_in(replace(shut, sandbox=Sandbox.OFF)) == ""


@landlock
def test_the_launcher_starts_serving_runners_that_hand_over_when_shut_in(shut, start):
    """A runner that is told to retire ends by itself."""
    process = start.serving(shut)

    process.retire()

    assert wait_for(process, RunnerState.EXITED).exit_code == 0
