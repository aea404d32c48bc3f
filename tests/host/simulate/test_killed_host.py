"""The host killed at random moments of a rollout: the same end as if it had lived."""

import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from random import Random

from edgepick_host import app
from edgepick_host.core.decision import first_break
from edgepick_host.core.rollout_state import Stage
from edgepick_host.core.waves import Plan
from edgepick_host.simulate.scenario import Behaviour, Kind, Scenario

DEVICES = 60
KILLS = 5
PLAN = Plan(version="1", canary=2, waves=tuple(n / 10 for n in range(1, 11)), soak_seconds=0.5, wave_seconds=120)
HOST = Path(__file__).parent / "brief_lease.py"


def started(site) -> subprocess.Popen:
    with (site.folder / "serve.log").open("ab") as log:
        words = [sys.executable, str(HOST), "serve", "--broker", f"mqtt://{site.settings.broker.place}"]
        return subprocess.Popen(words, cwd=site.folder, stdout=log, stderr=log)


def at_work(site, process: subprocess.Popen) -> bool:
    return f"-{process.pid}-" in (app.coordinator_at_work(site.settings) or "")


def wait(condition, what: str, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def test_a_host_killed_again_and_again_skips_no_device_and_sends_none_back(sim_site):
    """After five SIGKILLs each of sixty devices got the new variant once, and no report is lost or doubled."""
    scenario = Scenario(strata=(Kind(variants={"int8": Behaviour(latency=0.8)}),))
    lot, host = Random(6), started(sim_site)
    try:
        with sim_site.devices(DEVICES, scenario) as devices:
            wait(devices.confirmed(DEVICES), "the first variant is everywhere")
            sim_site.publish("int8", "1")
            app.start_rollout(sim_site.settings, "digits", PLAN)
            for _ in range(KILLS):
                wait(lambda alive=host: at_work(sim_site, alive), "a host has taken over")
                time.sleep(lot.uniform(0, 1.5))
                assert not app.rollout(sim_site.settings, None).settled
                host.kill()
                host.wait()
                host = started(sim_site)
            wait(lambda: app.rollout(sim_site.settings, None).settled, "the rollout ends")
            wait(devices.confirmed(DEVICES), "every report is stored")
            records = devices.stop()
    finally:
        host.kill()
        host.wait()

    with app.store_of(sim_site.settings) as store:
        stored = Counter(report.device for report in store.reports())
        documents = [document for _, document in store.decisions()]
    assert app.rollout(sim_site.settings, None).stage is Stage.DONE
    assert Counter(record.served for record in records) == {("float32", "int8"): DEVICES}
    assert set(stored.values()) == {6}  # two installations and four measurements each
    assert len(documents) == 1
    assert first_break(documents) is None
