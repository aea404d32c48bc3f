"""The kit itself: it passes a sound agent, and catches each flaw by the cases that are about it."""

import json
import signal
import subprocess
import threading

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from conformance.conftest import TOY, Kit
from edgepick_host.cli.main import run
from edgepick_host.conformance.catalogue import CASES
from fakes import toy_agent as toy
from integration.whole_system import alive, until

SOME = (
    "installs",
    "order-lower-sequence",
    "order-frozen",
    "order-stranger",
    "order-altered",
    "manifest-stranger",
    "manifest-altered",
    "manifest-lower-epoch",
    "chunk-flipped-bit",
    "chunk-mixed",
)
ONLY = tuple(word for name in SOME for word in ("--only", name))
SIGNED = {"order-stranger", "order-altered", "manifest-stranger", "manifest-altered"}
REPORTED = {"order-lower-sequence", "order-frozen", "order-stranger", "order-altered"}

FLAWS = {
    toy.IGNORES_SIGNATURES: SIGNED,
    toy.ACCEPTS_OLDER: {"order-lower-sequence", "order-frozen"},
    toy.TRUSTS_CHUNK_TOPICS: {"chunk-flipped-bit", "chunk-mixed"},
    toy.FORGETS: {"order-frozen"},
}


def failed(cases):
    return {name for name, case in cases.items() if case["verdict"] == "failed"}


def test_a_sound_agent_passes(kit):
    """An agent that keeps the protocol passes, and what it does not declare is skipped with the reason."""
    code, cases = kit.verdicts(*ONLY, "--only", "golden-fails", "--", *TOY)

    assert failed(cases) == set()
    assert code == 0
    assert cases["golden-fails"]["verdict"] == "skipped"
    assert cases["golden-fails"]["observed"] == "the agent does not declare golden"
    assert {case["verdict"] for case in cases.values()} == {"passed", "skipped"}


@pytest.mark.parametrize(("flaw", "caught"), FLAWS.items(), ids=FLAWS)
def test_a_flawed_agent_is_caught(kit, flaw, caught):
    """Each flaw fails exactly the cases that are about it, and says what the agent did."""
    code, cases = kit.verdicts(*ONLY, "--", *TOY, "--flaw", flaw)

    assert failed(cases) == caught
    assert code == 1
    assert all("must" in cases[name]["observed"] for name in caught)


def test_an_agent_that_refuses_in_silence_is_caught(kit):
    """A refusal that nobody hears of is a failure, once the wait is over."""
    code, cases = kit.verdicts("--only", "order-stranger", "--", *TOY, "--flaw", toy.KEEPS_SILENT, timeout="10")

    assert code == 1
    assert cases["order-stranger"]["observed"] == "not within 10 s: the agent reports `desired-refused`"


def test_an_agent_that_ends_is_caught(kit):
    """An agent that a bad order ends has failed; its exit code is told at once."""
    code, cases = kit.verdicts("--only", "order-no-json", "--", *TOY, "--flaw", toy.ENDS_AT_GARBAGE)

    assert code == 1
    assert cases["order-no-json"]["observed"].startswith("the agent ended with code 70")


def test_expected_failures_do_not_fail_the_run(kit, tmp_path):
    """A failure that the file names is expected; a pass that it names is an error."""
    file = tmp_path / "xfails"
    flawed = ("--only", "order-frozen", "--only", "installs", "--", *TOY, "--flaw", toy.FORGETS)

    file.write_text("order-frozen  # keeps nothing yet\n")
    expected, first = kit.verdicts("--xfails", str(file), *flawed)
    file.write_text("order-frozen\ninstalls\n")
    outdated, second = kit.verdicts("--xfails", str(file), *flawed)

    assert (expected, first["order-frozen"]["verdict"], first["installs"]["verdict"]) == (0, "xfailed", "passed")
    assert (outdated, second["installs"]["verdict"]) == (1, "xpassed")


def test_the_table_says_what_was_attacked_expected_and_observed(kit):
    """Without --json a person reads one line a case and a sum."""
    done = kit("--only", "order-stranger", "--", *TOY)

    assert done.returncode == 0, done.stderr
    assert all(word in done.stdout for word in ("order-stranger", "passed", "attacked", "expected", "observed"))
    assert done.stdout.rstrip().endswith(f"toy 1 at {kit.broker}: 1 passed")


def test_nothing_is_left_in_the_broker(kit, session_broker):
    """After a run the broker retains nothing of it."""
    kit("--only", "installs", "--", *TOY)
    heard = []
    ended = threading.Event()
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.on_message = lambda _c, _d, m: ended.set() if m.payload == b"end" else heard.append(m.topic)
    client.on_subscribe = lambda c, *_: c.publish("edgepick/1/end", b"end", qos=1)
    client.on_connect = lambda c, *_: c.subscribe("edgepick/1/#", qos=1)
    client.connect("127.0.0.1", session_broker.port)

    client.loop_start()
    came = ended.wait(60)
    client.disconnect()
    client.loop_stop()

    assert came
    assert [topic for topic in heard if topic.startswith("edgepick/1/conf-")] == []


def test_ending_the_kit_ends_its_agents(kit, tmp_path):
    """SIGTERM ends the kit and every agent that it started, and begins no further case."""
    command = (
        "--keep",
        str(tmp_path),
        "--only",
        "order-no-json",
        "--jobs",
        "1",
        "--",
        *TOY,
        "--flaw",
        toy.KEEPS_SILENT,
    )
    with subprocess.Popen(kit.command(*command, timeout="100"), env=kit.environment()) as process:
        state = tmp_path / "order-no-json" / "state" / "state.json"
        until(state.exists, "the agent is there")
        agent = json.loads(state.read_text())["pid"]

        process.terminate()
        code = process.wait(60)

    assert code == 128 + signal.SIGTERM
    until(lambda: not alive(agent), "the agent is gone")


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("--only", "no-such-case", "--", *TOY), 2, "no case is called no-such-case"),
        (("--", "./no-such-agent"), 2, "./no-such-agent: cannot be started"),
        (("--xfails", "no-such-file", "--", *TOY), 2, "no-such-file"),
        (("--broker", "mqtts://127.0.0.1", "--", *TOY), 2, "expected auto, embedded or mqtt://host[:port]"),
        (("--broker", "mqtt://127.0.0.1:1", "--only", "installs", "--", *TOY), 3, "no broker at 127.0.0.1:1"),
        ((), 2, "Missing argument"),
    ],
)
def test_a_wrong_command_line_is_explained(kit, tmp_path, words, code, told):
    """What is wrong with the command line is said in a sentence, with the exit code for it."""
    done = kit(*words, cwd=tmp_path)

    assert (done.returncode, told in done.stderr, "Traceback" in done.stderr) == (code, True, False), done.stderr


def test_without_mosquitto_the_kit_says_what_to_do(monkeypatch, capsys, tmp_path):
    """Nothing is run on a broker that would fail cases for reasons of its own, unless somebody asks for that."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("edgepick_host.demo.broker.SYSTEM_FOLDERS", "")

    code = run(["conformance", "run", "--", *TOY])

    said = capsys.readouterr().err
    assert code == 3
    assert "needs mosquitto, which is not installed" in said
    assert "--broker embedded" in said


def test_the_embedded_broker_serves_whoever_asks_for_it():
    """A single case passes on it."""
    code, cases = Kit("embedded").verdicts("--only", "installs", "--", *TOY, timeout="60")

    assert (code, cases["installs"]["verdict"]) == (0, "passed")


def test_the_catalogue_is_complete():
    """Every case has a name of its own and says what it attacks and what it expects."""
    names = [case.name for case in CASES]

    assert len(set(names)) == len(names) > 50
    assert all(case.attack and case.expected for case in CASES)
    assert json.dumps(names)
