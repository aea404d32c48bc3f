"""Simulated devices at a real broker, with a real host: the whole way of a rollout."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter

import pytest

from edgepick_host import app
from edgepick_host.core.replay import Outcome
from edgepick_host.core.rollout_state import Stage
from edgepick_host.core.waves import Plan
from edgepick_host.simulate.scenario import Behaviour, Failures, Kind, Noise, Scenario
from edgepick_wire import codec, envelope, topics
from edgepick_wire.envelope import DocumentType
from edgepick_wire.messages import Desired, TargetKind

PLAN = Plan(version="1", canary=2, waves=(0.2, 1.0), soak_seconds=0.2, wave_seconds=120)


def fleet(behaviour: Behaviour, **more) -> Scenario:
    return Scenario(strata=(Kind(variants={"int8": behaviour}),), **more)


def test_fifty_devices_prove_a_better_variant_and_get_it(sim_site):
    """Fifty devices compare two variants in quads, the better one is chosen by proof, and all of them confirm it."""
    with sim_site.devices(50, fleet(Behaviour(latency=0.8)), first_chunk=True) as devices:
        sim_site.host_until(devices.confirmed(50), "the first variant is everywhere")
        sim_site.publish("int8", "1")
        end = sim_site.rollout(PLAN)
        records = devices.stop()

    replayed = app.replay_decisions(sim_site.settings)
    assert end.stage is Stage.DONE
    assert Counter(r.served for r in records) == {("float32", "int8"): 50}
    assert {r.measured for r in records} == {4}
    assert app.decision_records(sim_site.settings, "digits")[-1].decision.proofs[0].paired
    assert [r.outcome for r in replayed] == [Outcome.SAME]
    assert devices.hub.tally().refused == 0


def test_a_variant_that_crashes_in_service_is_taken_back(sim_site):
    """Every device that had it returns, and nobody else ever ran it."""
    with sim_site.devices(12, fleet(Behaviour(crash=1.0))) as devices:
        sim_site.host_until(devices.confirmed(12), "the first variant is everywhere")
        sim_site.publish("int8", "2")
        end = sim_site.rollout(Plan(version="2", variant="int8", soak_seconds=60, wave_seconds=120))
        records = devices.stop()

    assert end.stage is Stage.REVERTED
    assert {r.models["digits"].active for r in records} == {"float32"}
    assert Counter(r.served for r in records) == {("float32",): 11, ("float32", "int8", "float32"): 1}


def test_liars_floods_and_twins_disturb_nobody_else(sim_site):
    """Beside devices that lie, flood and share a name, honest ones get their variant and have their reports taken."""
    failures = Failures(nan=0.1, negative=0.1, impossible=0.1, flooding=0.1, twin=0.1, flood_per_second=50)
    with sim_site.devices(30, fleet(Behaviour(), seed=1, failures=failures)) as devices:
        sim_site.host_until(
            lambda: (
                all(seat.models["digits"].active == "float32" for seat in honest(devices) if seat.models)
                and all(seat.models and not seat.waiting for seat in honest(devices))
            ),
            "honest devices run the first variant",
        )
        records = devices.stop()

    kinds = {r.ailment for r in records}
    assert kinds >= {"nan", "negative", "impossible", "flooding", "twin", None}
    assert any("refused a message" in line for line in sim_site.said)


def honest(devices):
    return [r for r in devices.hub.records() if r.ailment is None]


def test_devices_with_connections_of_their_own_have_last_wills(sim_site):
    """One connection a device: what goes silent is reported by the broker, and late devices find what they need."""
    failures = Failures(vanishing=0.4, late=0.3, late_seconds=1.0, vanish_seconds=2.0)
    scenario = fleet(Behaviour(), seed=1, failures=failures, noise=Noise())
    with sim_site.devices(10, scenario, connection_each=True) as devices:
        vanished = {r.device for r in devices.hub.records() if r.ailment == "vanishing"}
        sim_site.host_until(lambda: gone(sim_site) == vanished and stay(devices), "the last wills arrived")
        records = devices.stop()

    assert vanished
    assert {r.device for r in records if not r.online} == vanished
    assert {r.models["digits"].active for r in records if r.ailment == "late"} == {"float32"}


def gone(site) -> set[str]:
    with app.store_of(site.settings) as store:
        return {d.device for d in store.devices() if not d.online}


def stay(devices) -> bool:
    here = [r for r in devices.hub.records() if r.ailment != "vanishing"]
    lost = [r for r in devices.hub.records() if r.ailment == "vanishing"]
    settled = all(r.models and r.models["digits"].active and not r.waiting for r in here)
    return settled and not any(r.online for r in lost)


def test_a_forged_desired_state_is_not_followed(sim_site):
    """Signatures are really checked: what a stranger retains changes nothing."""
    forged = Desired(
        fleet=sim_site.settings.fleet, target_kind=TargetKind.PROFILE, target="generic-linux", sequence=99,
        issued_at=0.0,
    )  # fmt: skip
    raw = envelope.pack(envelope.Envelope(type=DocumentType.DESIRED, payload=codec.encode(forged), signatures=()))
    with sim_site.devices(3, Scenario()) as devices:
        sim_site.host_until(devices.confirmed(3), "the variant is everywhere")
        with app.broker_of(sim_site.settings) as broker:
            topic = topics.profile_desired(sim_site.settings.fleet, "generic-linux")
            broker.publish(topic, raw, retain=True)
        sim_site.host_until(lambda: devices.hub.tally().refused == 1, "the forged document was looked at")
        records = devices.stop()

    assert {r.models["digits"].active for r in records} == {"float32"}


def simulating(site, *words) -> subprocess.Popen:
    """Return the running command, to be used as a context."""
    command = [sys.executable, "-m", "edgepick_host", "simulate", "--broker", site.settings.broker.place, *words]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        list(map(str, command)), env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_the_command_runs_a_fleet_in_processes_and_writes_what_became_of_it(sim_site, tmp_path):
    """Two processes share the devices; one JSON object a second, and one record a device at the end."""
    records, scenario = tmp_path / "records.jsonl", tmp_path / "fleet.toml"
    scenario.write_text('[[strata]]\nprofile = "generic-linux"\n[pace]\nfetch = 0.1\nconfirm = 0.1\nmeasure = 0.1\n')

    words = ("--devices", "6", "--processes", "2", "--scenario", scenario, "--records", records, "--json")
    with simulating(sim_site, *words) as fleet:
        next(tally for tally in map(json.loads, fleet.stdout) if tally["phases"].get("confirmed") == 6)
        fleet.send_signal(signal.SIGTERM)
        tallies = [json.loads(line) for line in fleet.stdout]
        said = fleet.stderr.read()

    found = [json.loads(line) for line in records.read_text().splitlines()]
    assert (fleet.returncode, said) == (0, "")
    assert tallies[-1]["devices"] == 6
    assert [r["device"] for r in found] == [f"sim-{n:05d}" for n in range(6)]
    assert {r["models"]["digits"]["active"] for r in found} == {"float32"}


def test_the_command_ends_when_its_time_is_over(sim_site, tmp_path):
    """With --for nobody has to end it, and what became of the devices is written all the same."""
    with simulating(sim_site, "--devices", "2", "--for", "0.5", "--records", tmp_path / "records.jsonl") as fleet:
        fleet.communicate()

    assert fleet.returncode == 0
    assert len((tmp_path / "records.jsonl").read_text().splitlines()) == 2


def test_without_a_broker_the_command_says_so(site, edgepick):
    """A fleet that reaches nobody is exit code 3, and a sentence."""
    done = edgepick("simulate", "--broker", "mqtt://127.0.0.1:1", "--for", "5")

    assert done.code == 3
    assert "127.0.0.1:1" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[noise]\nefect = 1\n", "noise.efect: unknown key (did you mean 'effect'?)"),
        ("[[strata]]\n[strata.variants.int8]\ncrash = 2.0\n", "a share is 0 to 1"),
        ("[pace]\nfetch = 'long'\n", "Scenario.pace.fetch"),
        ("seed = \n", "not TOML"),
    ],
)
def test_a_wrong_scenario_names_what_is_wrong(site, edgepick, tmp_path, text, words):
    """File, key, what was found and what is allowed, before anything is connected."""
    scenario = tmp_path / "wrong.toml"
    scenario.write_text(text)

    done = edgepick("simulate", "--scenario", str(scenario))

    assert done.code == 2
    assert words in done.err
