"""A broker that is killed and comes back without its memory, while host and device are at work."""

from integration.whole_system import until


def test_a_fleet_outlives_a_broker_that_forgets(broker, host, device, variants):
    """The service sends again what is wanted and names the command for the rest; with it a new device converges."""
    made = host.publish(variants, "--no-measure")
    wanted = made["targets"][0]["active"]
    log = host.folder / "service.log"

    with host.service():
        until(lambda: "serving fleet" in log.read_text(), "the service is at work")
        broker.process.kill()
        broker.process.wait()
        broker.start()
        until(lambda: "has lost its memory" in log.read_text(), "the service says so")
        device.start()
        until(lambda: (m := device.model()) and m.wanted == wanted, "what is wanted is there again")
        again = host.publish(variants, "--no-measure")
        until(lambda: device.confirmed(wanted) and not device.waiting_reports(), "confirmed and acknowledged")

    assert "edgepick publish" in log.read_text()
    assert all(v["chunks_new"] for v in again["variants"])
    assert [r.install.manifest for r in host.reports("pi-1") if r.install] == [wanted]
