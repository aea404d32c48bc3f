"""The main job by hand: publish, leave, install, roll out, ask why, go back."""

import pytest

from edgepick_wire import topics
from edgepick_wire.ids import digest_of
from edgepick_wire.messages import Outcome, Phase
from integration.forger import Forger
from integration.whole_system import FLEET, MODEL, Device, until


@pytest.fixture(params=["mosquitto", "amqtt"])
def any_broker(request, broker):
    """Provide a broker of each kind."""
    if request.param == broker.kind:
        return broker
    if request.param == "mosquitto":
        pytest.skip("mosquitto is not installed")
    broker.stop()
    broker.kind = request.param
    broker.start()
    return broker


@pytest.mark.slow
def test_a_device_that_comes_later_gets_the_model(any_broker, host, device, variants):
    """The publisher has gone when an agent starts that nobody has heard of: it installs, confirms and serves."""
    made = host.publish(variants, "--no-measure", "--version", "1")
    nobody = host.ask("devices", "list", "--json").json()

    device.start()
    active = until(lambda: (m := device.model()) and m.phase is Phase.CONFIRMED and m.active, "confirmed")

    known = host.ask("devices", "list", "--json").json()
    assert nobody == []
    assert active in {v["manifest"] for v in made["variants"]}
    assert device.answers() >= 0.75
    assert [(d["device"], d["reported"]["models"][0]["active"]) for d in known] == [("pi-1", active)]


@pytest.mark.slow
def test_a_second_version_is_rolled_out_explained_and_taken_back(host, tmp_path, variants, newer_variants):
    """Measured on two devices, chosen, confirmed on a canary, then on all; `why` says so; a technician goes back."""
    devices = [Device(tmp_path, host, name) for name in ("pi-1", "pi-2")]
    first = host.publish(variants, "--version", "1", "--variant", "static_wi8_ai8-tflite")["variants"][0]["manifest"]
    try:
        for each in devices:
            each.start()
        for each in devices:
            until(lambda each=each: each.confirmed(first), "version 1 is confirmed")
        second = host.publish(newer_variants, "--version", "2")["variants"][0]["manifest"]

        # The objective is one that two machines of the same kind cannot disagree about.
        options = ("--objective", "minimise size", "--waves", "100%", "--soak", "0s", "--min-devices", "2", "--json")
        started = host.ask("rollout", "start", MODEL, *options)
        assert started.code == 0, started
        why = host.ask("why", MODEL)
        records = host.ask("why", MODEL, "--json").json()
        shown = host.ask("rollout", "status", "--json").json()
        plain = [host.ask("rollout", "status"), host.ask("devices", "list"), host.ask("devices", "show", "pi-2")]
        running = {each.name: each.active() for each in devices}
        back = devices[1]("rollback", "--yes", "--json")
        assert back.code == 0, back
        until(devices[1].runner, "one variant serves")
        share = devices[1].answers()
        status = devices[1]("status", "--json").json()["status"]
        for each in devices:
            each.stop()
    finally:
        for each in devices:
            each.end()

    assert started.json()["stage"] == shown["stage"] == "done"
    assert running == {"pi-1": second, "pi-2": second}
    assert "promote, run 2 static_wi8_ai8-tflite" in why.out
    assert [r["decision"]["winner"] for r in records] == [second]
    assert [done.code for done in plain] == [0, 0, 0]
    assert back.json()["models"][0]["active"] == first
    assert (status["models"][0]["pinned"], status["models"][0]["active"]) == (True, first)
    assert status["models"][0]["refusal"]["code"] == "pinned"
    assert share >= 0.75


def test_a_download_goes_on_after_the_agent_was_killed(broker, host, device, variants):
    """SIGKILL with one chunk missing: the next agent keeps what it has, fetches that one, and the file is right."""
    model = (variants / "float32-tflite" / "model.tflite").read_bytes()
    last = topics.chunk(FLEET, digest_of(model[2 * 65536 :]))
    made = host.publish(variants, "--all", "--no-measure", "--plain", "--activate", "float32-tflite", "--yes")
    manifest = next(v["manifest"] for v in made["variants"] if v["variant"] == "float32-tflite")
    thief = Forger(host, device)
    thief.put(last, b"")
    device.start()
    until(lambda: (m := device.model()) and 0 < m.chunks_done == m.chunks_total - 1, "all but one chunk are here")
    others = device.model().chunks_done

    device.kill()
    device.start()
    thief.close()
    host.publish(variants, "--all", "--no-measure", "--plain", "--republish")
    until(lambda: device.confirmed(manifest), "confirmed")

    (install,) = [r.install for r in device.waiting_reports() if r.install]
    assert install.outcome is Outcome.CONFIRMED
    assert (install.chunks_fetched, install.chunks_reused) == (1, others)
    assert device.stored(manifest).read_bytes() == model
    assert device.answers() >= 0.75
