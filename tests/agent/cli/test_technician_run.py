"""The agent as a process: it starts, says how it is, keeps trying, and ends cleanly."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

SIGNALLED_AGENT = Path(__file__).with_name("signalled_agent.py")


def wait_for(look, what, seconds=30.0):
    """Return what ``look`` returns once it is true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.05)
    raise AssertionError(f"{what} did not happen in {seconds} s")


@pytest.fixture
def start(config_file, tmp_path):
    """Provide a function that starts the agent as systemd would; what is left running is ended."""
    running = []

    def start_one(*arguments, **environ):
        log = (tmp_path / f"agent-{len(running)}.log").open("w")
        clean = {k: v for k, v in os.environ.items() if k not in {"INVOCATION_ID", "JOURNAL_STREAM", "NOTIFY_SOCKET"}}
        command = [sys.executable, "-m", "edgepick_agent", *(arguments or ("run", "--config", str(config_file)))]
        process = subprocess.Popen(command, stderr=log, stdout=log, env={**clean, **environ})
        log.close()
        process.log = Path(log.name)
        running.append(process)
        return process

    yield start_one
    for process in running:
        if process.poll() is None:
            process.kill()
        process.wait()


def status(command, config_file):
    """Return what ``status --json`` says, ``None`` while there is nothing to say."""
    result = command("status", "-c", config_file, "--json")
    return json.loads(result.stdout)["status"] if result.exit_code == 0 else None


def answers(command, config_file):
    """Return the status of a running agent."""
    found = status(command, config_file)
    return found if found and found["running"] else None


def test_without_a_broker_the_agent_runs_and_says_so(command, config_file, start):
    """A broker that is away stops nothing: the agent runs, and ``status`` says what is wrong and what to do."""
    process = start()
    found = wait_for(lambda: answers(command, config_file), "an answer")
    wait_for(lambda: "refused" in status(command, config_file)["broker"], "a word about the broker")
    screen = command("status", "-c", config_file).stdout

    assert process.poll() is None
    assert (found["device"], found["session"]) == ("pi-7", 1)
    assert "connection refused" in screen
    assert "edgepick-agent doctor" in screen


def test_a_broker_that_comes_later_is_found(command, config_file, start, broker):
    """The agent keeps trying, and connects as soon as the broker is there."""
    broker.stop()
    text = config_file.read_text().replace("port = 1", f"port = {broker.port}\nreconnect_max_seconds = 0.5")
    config_file.write_text(text)
    start()
    wait_for(lambda: answers(command, config_file), "an answer")
    broker.start()

    found = wait_for(lambda: status(command, config_file)["broker"] == "connected", "a connection")

    assert found


@pytest.mark.parametrize(
    ("before", "number"), [((), signal.SIGTERM), (("--verbose",), signal.SIGINT)], ids=["systemd", "person"]
)
def test_a_signal_ends_the_agent_cleanly(command, config_file, start, before, number):
    """Started by systemd or by a person, SIGTERM and Ctrl-C end with code 0, and what it knew stays readable."""
    process = start(*before, "run", "--config", str(config_file))
    wait_for(lambda: answers(command, config_file), "an answer")
    process.send_signal(number)

    assert process.wait(30) == 0
    assert "Traceback" not in process.log.read_text()
    assert not (config_file.parent / "state" / "control.sock").exists()
    assert status(command, config_file)["running"] is False


def test_a_signal_that_does_not_wake_the_main_thread_ends_the_agent(command, config_file, broker):
    """Heard in the moment before the loop sleeps, or by another thread, SIGTERM does not wait for the loop to wake."""
    config_file.write_text(config_file.read_text().replace("port = 1", f"port = {broker.port}"))
    process = subprocess.Popen(
        [sys.executable, str(SIGNALLED_AGENT), str(config_file)],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        wait_for(lambda: (answers(command, config_file) or {}).get("broker") == "connected", "a connection")
        process.communicate("\n", timeout=30)
    finally:
        process.kill()

    assert process.returncode == 0


def test_a_bundle_is_installed_by_the_running_agent(command, config_file, start, bundle_file):
    """With an agent running, ``install`` goes through it: the model serves at once, and status shows its runner."""
    with config_file.open("a") as file:
        file.write("\n[runner]\nconfirm_seconds = 0.2\nhealth_interval_seconds = 0.1\n")
    process = start()
    wait_for(lambda: answers(command, config_file), "an answer")
    installed = command("install", bundle_file("1"), "-c", config_file, "--yes")
    found = answers(command, config_file)

    assert installed.exit_code == 0, installed.output
    assert found["models"][0]["phase"] == "confirmed"
    assert (found["runners"][0]["state"], Path(found["runners"][0]["socket"]).is_socket()) == ("ready", True)
    assert process.poll() is None


def test_systemd_is_told_when_it_is_ready_alive_and_stopping(config_file, start, tmp_path):
    """READY comes once, WATCHDOG again and again while the loop answers, STOPPING at the end."""
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(address))
        server.settimeout(30)
        process = start(NOTIFY_SOCKET=str(address), WATCHDOG_USEC="200000")
        said = [server.recv(100).decode() for _ in range(3)]
        process.terminate()
        while said[-1] != "STOPPING=1":
            said.append(server.recv(100).decode())

    assert said[:3] == ["READY=1", "WATCHDOG=1", "WATCHDOG=1"]
    assert said.count("READY=1") == 1


def test_a_hung_agent_is_not_said_to_be_alive(monkeypatch):
    """The watchdog speaks only if the agent's own loop has answered."""
    from edgepick_agent import app
    from edgepick_agent.cli import serve
    from edgepick_agent.errors import UnreachableError

    class Stop:
        def __init__(self):
            self.turns = 0

        def wait(self, _seconds):
            self.turns += 1
            return self.turns > 3

    said = []

    def no_answer(_settings):
        raise UnreachableError("no answer")

    monkeypatch.setattr(app, "read_status", no_answer)
    serve._watch(None, Stop(), said.append, 1.0)

    assert said == []


def test_under_systemd_the_log_is_json(command, config_file, start):
    """With systemd's variables each line is a JSON document."""
    process = start(INVOCATION_ID="abc")
    wait_for(lambda: answers(command, config_file), "an answer")
    process.terminate()
    process.wait(30)

    lines = [json.loads(line) for line in process.log.read_text().splitlines()]

    assert {"time", "level", "text"} <= set(lines[0])
    assert "pi-7" in lines[0]["text"]


def test_a_second_agent_on_the_same_state_is_refused(command, config_file, start):
    """Two agents never share a state directory; the second one says so and leaves the first alone."""
    first = start()
    wait_for(lambda: answers(command, config_file), "an answer")
    second = start()

    assert second.wait(30) == 1
    assert "another edgepick-agent runs here" in second.log.read_text()
    assert first.poll() is None
    assert answers(command, config_file)


def test_a_wrong_configuration_ends_with_code_2_at_once(config_file, start):
    """The exit code that the unit does not restart."""
    config_file.write_text(config_file.read_text() + "\nflet = 1\n")
    process = start()

    assert process.wait(30) == 2
    assert "unknown key" in process.log.read_text()
    assert "Traceback" not in process.log.read_text()


def test_status_before_the_first_run_says_how_to_start(command, config_file):
    """Neither an agent nor a trace of one is an error with the next step, not an empty screen."""
    result = command("status", "-c", config_file)

    assert result.exit_code == 1
    assert "edgepick-agent run" in result.stderr
