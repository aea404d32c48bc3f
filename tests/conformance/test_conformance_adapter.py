"""Our agent's three commands, as any other agent's would be called."""

import json
import subprocess
import sys

import pytest

from edgepick_agent.config import read_config, require_settings
from edgepick_host.conformance.interface import BrokerAddress, Capability, Context, InitAnswer
from edgepick_wire import codec, envelope
from wire.wire_keys import root, signed_root


def call(*words):
    command = [sys.executable, "-m", "edgepick_agent.conformance", *map(str, words)]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)


@pytest.fixture
def prepared(tmp_path):
    """Provide a folder in which ``init`` was called, and what it answered."""
    context = Context(
        fleet="conf-1",
        device="dut-1",
        profile="generic-linux",
        root_document=str(tmp_path / "root.signed"),
        broker=BrokerAddress(host="127.0.0.1", port=1883),
    )
    (tmp_path / "root.signed").write_bytes(envelope.pack(signed_root(root(fleet="conf-1"), 0)))
    (tmp_path / "context.json").write_bytes(codec.encode_document(context))
    folder = tmp_path / "state"
    folder.mkdir()
    return folder, call("init", folder, tmp_path / "context.json")


def test_init_configures_the_agent_as_a_person_would(prepared):
    """What the kit asks for is in the configuration, which the agent itself reads without complaint."""
    folder, done = prepared

    settings = require_settings(read_config(folder / "agent.toml", {}))
    answer = codec.decode_document(InitAnswer, done.stdout.encode())

    assert (settings.fleet, settings.device, settings.profile) == ("conf-1", "dut-1", "generic-linux")
    assert (settings.broker.port, settings.fetch.timeout_seconds) == (1883, 0.5)
    assert set(answer.capabilities) <= {capability.value for capability in Capability}


def test_status_without_an_agent_says_so_by_its_exit_code(prepared):
    """``status`` ends with 3 while no agent runs, and prints nothing on stdout."""
    folder, _ = prepared

    done = call("status", folder)

    assert (done.returncode, done.stdout) == (3, ""), done.stderr


@pytest.mark.parametrize("words", [(), ("status",), ("fly", "DIR")])
def test_other_words_get_the_usage(words):
    """Anything but the three commands is answered with the usage and exit code 2."""
    done = call(*words)

    assert (done.returncode, "usage:" in done.stderr) == (2, True)


def test_a_context_that_is_none_is_an_error_in_words(tmp_path):
    """A file that is no context ends ``init`` with 1 and one sentence."""
    (tmp_path / "context.json").write_text(json.dumps({"fleet": 1}))

    done = call("init", tmp_path, tmp_path / "context.json")

    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert done.stderr.startswith("error: ")
