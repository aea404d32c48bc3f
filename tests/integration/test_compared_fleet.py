"""A variant of the version that runs already: ordered in quads, measured, decided, replayed, by the real commands."""

from integration.whole_system import MODEL, until

RUNNING, CHALLENGER = "float32-tflite", "static_wi8_ai8-tflite"


def test_a_challenger_is_measured_beside_what_runs_and_the_decision_is_replayed(host, device, variants):
    """One device compares the other variant, and what runs with itself; whatever is decided is derived again."""
    made = host.publish(variants, "--version", "1", "--no-measure", "--variant", RUNNING)
    device.start()
    until(lambda: device.confirmed(made["variants"][0]["manifest"]), "version 1 is confirmed")
    host.publish(variants, "--version", "1", "--activate", "none")

    ended = host.ask("rollout", "start", MODEL, "--objective", "minimise latency", "--soak", "0s", "--yes", "--json")

    why = host.ask("why", MODEL, "--json").json()[0]["decision"]
    (proof,) = why["proofs"]
    assert proof["scope"] == "devices"
    assert proof["units"] + sum(proof["dropped"].values()) == 24
    assert (proof["verdict"] == "promote") == (why["verdict"] == "promote") == (ended.code == 0)
    replayed = host.ask("replay", MODEL, "--json")
    assert (replayed.code, {r["outcome"] for r in replayed.json()}) == (0, {"same"})
    with host.store() as store:
        found = [r.measurement for r in store.reports() if r.measurement and r.measurement.measurement]
    compared = {(m.manifest == why["incumbent"], m.measurement.paired.against) for m in found if m.measurement.paired}
    assert compared == {(True, why["incumbent"]), (False, why["incumbent"])}
