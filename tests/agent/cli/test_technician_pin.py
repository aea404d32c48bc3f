"""``pin`` and ``unpin`` as a technician types them, with and without a running agent."""

import dataclasses
import json

import pytest

from edgepick_agent.cli.pin import chosen
from edgepick_agent.cli.status import screen
from edgepick_agent.core.control import AgentStatus
from edgepick_agent.errors import AgentError
from edgepick_wire.messages import ModelState, Phase

ONE, TWO = "1" * 64, "2" * 64
STATE = ModelState(
    model="digits",
    phase=Phase.CONFIRMED,
    active=TWO,
    active_label="digits 2 float32",
    previous=ONE,
    previous_label="digits 1 int8",
)


def status_of(*models, held=()):
    return AgentStatus(
        running=True, device="d", fleet="f", profile="p", session=1, broker="connected", sequence=1,
        security_epoch=0, models=models, held=held, disk_free_bytes=1 << 30,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("variant", "digest"),
    [
        (None, TWO),
        ("active", TWO),
        ("digits 2 float32", TWO),
        ("2222", TWO),
        ("previous", ONE),
        ("1 int8", ONE),
        (ONE, ONE),
    ],
)
def test_a_variant_is_named_as_a_person_sees_it(variant, digest):
    """By what it is, by its label, or by the first digits of its digest."""
    assert chosen(status_of(STATE), variant, None) == (STATE, digest)


@pytest.mark.parametrize(
    ("variant", "model", "said"),
    [
        ("3 float32", None, "variant '3 float32' is not installed"),
        ("222", None, "not installed"),
        ("active", None, "add --model"),
        (None, None, "2 models are on this device"),
        (None, "cats", "there is no model 'cats'"),
    ],
)
def test_a_variant_that_cannot_be_meant_is_refused_with_what_is_available(variant, model, said):
    """Not installed, too few digits, two models: each says so, and names what there is."""
    other = dataclasses.replace(STATE, model="faces")

    with pytest.raises(AgentError, match=said) as caught:
        chosen(status_of(STATE, other), variant, model)

    assert "digits" in caught.value.hint


def test_the_screen_says_that_it_is_pinned_and_how_to_end_that():
    """The model's line and the advice name the pin and the command that takes it off."""
    pinned = dataclasses.replace(STATE, pinned=True)

    text = screen(status_of(pinned, held=("digits",)))

    assert "digits: confirmed, pinned until it is unpinned" in text
    assert "edgepick-agent unpin digits" in text


def test_without_an_agent_it_is_pinned_shown_and_unpinned(command, config_file, bundle_file):
    """On the state alone: pin the previous variant, be refused another installation, unpin, install it."""
    with config_file.open("a") as file:
        file.write("\n[runner]\nconfirm_seconds = 0.2\nhealth_interval_seconds = 0.1\n")
    for version in ("1", "2"):
        assert command("install", bundle_file(version), "-c", config_file, "--yes").exit_code == 0

    absent = command("pin", "9 float32", "-c", config_file)
    unasked = command("pin", "previous", "-c", config_file)
    pinned = command("pin", "previous", "-c", config_file, "--yes")
    shown = command("status", "-c", config_file)
    refused = command("install", bundle_file("3"), "-c", config_file, "--yes")
    document = json.loads(command("unpin", "-c", config_file, "--json").stdout)
    again = command("unpin", "-c", config_file)

    assert (absent.exit_code, "Installed: digits 2 " in absent.stderr) == (1, True), absent.stderr
    assert (unasked.exit_code, "--yes" in unasked.stderr) == (2, True)
    assert pinned.exit_code == 0, pinned.output
    assert "pinned to digits 1 float32" in pinned.stdout
    assert "edgepick-agent unpin digits" in shown.stdout
    assert (refused.exit_code, "unpin digits" in refused.stderr) == (1, True)
    assert (document["held"], document["models"][0]["pinned"]) == ([], False)
    assert "nothing to do" in again.stdout


def test_a_running_agent_is_pinned_through_its_socket(command, config_file, bundle_file, agent):
    """With the agent running the pin goes to it, and holds in the next one after it was killed."""
    with config_file.open("a") as file:
        file.write("\n[runner]\nconfirm_seconds = 0.2\nhealth_interval_seconds = 0.1\n")
    first = agent()
    assert command("install", bundle_file("1"), "-c", config_file, "--yes").exit_code == 0

    pinned = command("pin", "-c", config_file)
    first.kill()
    first.wait()
    agent()
    found = json.loads(command("status", "-c", config_file, "--json").stdout)["status"]

    assert pinned.exit_code == 0, pinned.output
    assert (found["running"], found["held"]) == (True, ["digits"])
