"""The agent as a process of its own, with a real broker, real files and real runners."""

import http.client
import io
import os
import re
import socket
import sys
from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
import pytest

import edgepick_host.demo
from edgepick_agent.core import places
from edgepick_agent.core.settings import FetchSettings
from edgepick_wire import codec, topics
from edgepick_wire.ids import digest_of
from edgepick_wire.messages import Outcome, Phase, Presence, Report
from fakes.agent_process import DEADLINE_SECONDS, AgentProcess, HostClient, until
from fakes.demo_bundle import signed
from fakes.host_stand_in import Bundle, HostStandIn

MIB = 1024 * 1024
DATA = Path(edgepick_host.demo.__file__).parent / "data"
HEAVY = {"numpy", "ai_edge_litert", "tflite_runtime", "onnxruntime", "tflite_micro", "tensorflow", "psutil", "click"}


@pytest.fixture
def host(broker):
    client = HostClient(broker.port)
    yield client
    client.close()


@pytest.fixture
def agent(broker, tmp_path):
    made = AgentProcess(tmp_path, broker.port)
    yield made
    made.end()


def real_bundle(version: str = "1", *, wrong: bool = False) -> Bundle:
    """Return the demo's float model with eight golden inputs, answered by LiteRT itself; or with wrong answers."""
    from ai_edge_litert.interpreter import Interpreter

    model = (DATA / "digits.tflite").read_bytes()
    interpreter = Interpreter(model_content=model)
    interpreter.allocate_tensors()
    x = np.load(DATA / "evaluation.npz")["x"][:8].astype(np.float32)
    outputs = []
    for sample in x:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], sample[None])
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0])
    buffer = io.BytesIO()
    expected = np.roll(np.array(outputs), 1, axis=-1) if wrong else np.array(outputs)
    np.savez(buffer, x=x, expected=expected)
    return signed(version, {"model.tflite": model, "golden.npz": buffer.getvalue()})


def phase(agent: AgentProcess) -> Phase | None:
    models = agent.status().models
    return models[0].phase if models else None


def reports(host: HostClient) -> list[Report]:
    return [codec.decode(Report, payload) for topic, payload in host.got if topic.endswith("/report")]


@pytest.mark.usefixtures("unobserved")
def test_an_idle_agent_is_small_and_loads_no_runtime(broker, agent, capsys):
    """Without a model the agent takes at most 30 MiB and has imported neither numpy nor any runtime."""
    agent.start()
    until(agent.is_connected, "connected")
    until((agent.state / "runtimes.json").exists, "the runtimes are known")
    rss = agent.memory("VmRSS")
    code = agent.stop()

    modules = set(re.findall(r"^MODULES (.*)$", agent.log(), re.MULTILINE)[-1].split())
    with capsys.disabled():
        sys.stdout.write(f"\nidle agent: {rss / MIB:.1f} MiB resident\n")
    assert code == 0
    assert modules & HEAVY == set()
    assert rss <= 30 * MIB


def test_a_real_model_is_installed_served_and_left_again_for_a_bad_one(agent, host):
    """Fetched, tried by LiteRT, confirmed and reachable under the stable socket; wrong answers never become active."""
    stand_in = HostStandIn(host)
    good, bad = real_bundle("1"), real_bundle("2", wrong=True)
    agent.start()
    for made in (good, bad):
        stand_in.publish(made)
        stand_in.want(made, rollout=made.content.version)
        end = Outcome.CONFIRMED if made is good else Outcome.REVERTED
        until(lambda end=end: [r for r in reports(host) if r.install and r.install.outcome is end], f"{end}")

    name = agent.state / places.model_socket("digits")
    status = agent.status()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(name))
        connection.sendall(b"GET /v2/models/digits HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        body = answer.read()
    pid = status.runners[0].pid
    assert pid is not None
    code = agent.stop()

    assert answer.status == 200
    assert b"digits" in body
    assert status.models[0].active == good.digest
    assert phase_of_failure(host) == "trial-failed"
    assert code == 0
    assert not Path(f"/proc/{pid}").exists()
    until(lambda: not codec.decode(Presence, host.latest("/presence") or b"").online, "the farewell")


def phase_of_failure(host: HostClient) -> str:
    refusal = next(r.install.refusal for r in reports(host) if r.install and r.install.refusal)
    return str(refusal.code)


def test_a_killed_runner_of_a_real_model_comes_back(agent, host):
    """SIGKILL to the runner: the agent says so, and serves the same model again."""
    stand_in = HostStandIn(host)
    made = stand_in.publish(real_bundle("1"))
    agent.start()
    stand_in.want(made, rollout="1")
    until(lambda: phase(agent) is Phase.CONFIRMED, "confirmed")
    pid = agent.status().runners[0].pid
    assert pid is not None

    os.kill(pid, 9)
    again = until(
        lambda: [r for r in agent.status().runners if r.pid not in {None, pid} and r.state == "ready"], "back"
    )

    assert again[0].failures == 1
    until(lambda: "runner-crashed" in {r.incident.code for r in reports(host) if r.incident}, "the host is told")


def test_a_second_agent_on_the_same_state_is_turned_away(agent):
    """One agent per state directory: the second exits with 1 and says why, the first is not disturbed."""
    agent.start()
    second = agent.spawn()

    code = second.wait(DEADLINE_SECONDS)

    assert code == 1
    assert "another edgepick-agent runs here" in agent.log()
    assert agent.answers()


def test_an_agent_that_is_not_let_in_says_why(broker, agent):
    """A broker that refuses the login is named in the status, in words, and the agent goes on trying."""
    broker.stop()
    if broker.kind != "mosquitto":
        pytest.skip("needs a broker that refuses anonymous clients")
    broker.extra = "allow_anonymous false"
    broker.start()
    agent.start()

    words = until(lambda: (b := agent.status().broker).startswith("refused") and b, "refused")

    assert "not authorised" in words


def test_a_broker_that_is_away_is_waited_for(broker, agent, host):
    """The agent starts without a broker, says so, and connects when the broker is there."""
    broker.stop()
    agent.start()
    away = until(lambda: (b := agent.status().broker) != "connecting" and b, "said")

    broker.start()
    until(agent.is_connected, "connected")

    assert "connection refused" in away


@pytest.mark.slow
def test_five_kills_during_a_large_download_cost_at_most_a_window_each(broker, agent, host, capsys):
    """64 MiB, SIGKILL five times: no chunk comes twice beyond the windows in flight, and memory stays flat."""
    if broker.kind != "mosquitto":
        pytest.skip("counts by mosquitto's log")
    broker.stop()
    broker.extra = "log_type all\nmax_queued_messages 0"
    broker.start()
    random = Random(64)
    large = signed("large", {"model.tflite": random.randbytes(64 * MIB), "golden.npz": random.randbytes(1000)})
    stand_in = HostStandIn(host)
    until(host.client.is_connected, "the host is connected")
    stand_in.publish(large)
    host.flush()
    agent.start()
    until(agent.is_connected, "connected")
    idle = agent.memory("VmHWM")
    stand_in.want(large, rollout="1")

    growth = []
    for mark in sorted(random.sample(range(50, 900), 5)):
        until(lambda mark=mark: len(sent(broker)) >= mark, f"{mark} chunks were sent")
        growth.append(agent.memory("VmHWM") - idle)
        agent.kill()
        agent.start()
    stored = agent.state / places.bundle_file(large.digest, "model.tflite")
    until((agent.state / places.manifest_file(large.digest)).exists, "stored")
    growth.append(agent.memory("VmHWM") - idle)

    counts = Counter(sent(broker))
    repeated = sum(count - 1 for count in counts.values())
    with capsys.disabled():
        sys.stdout.write(
            f"\n{len(counts)} chunks, {repeated} sent twice in 5 kills, growth {max(growth) / MIB:.1f} MiB\n"
        )
    assert set(counts) == {topics.chunk("demo", digest) for digest in large.chunks}
    assert repeated <= 5 * FetchSettings().window
    assert digest_of(stored.read_bytes()) == digest_of(large.files["model.tflite"])
    assert max(growth) < 16 * MIB


def sent(broker) -> list[str]:
    """Return the chunk topics that mosquitto says it sent to the device."""
    log = (broker.folder / "broker.log").read_text(errors="replace")
    return re.findall(r"Sending PUBLISH to edgepick-demo-pi-1 \([^']*'(edgepick/1/demo/c/[0-9a-f]{64})'", log)
