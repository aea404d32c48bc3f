import json

import pytest

from edgepick_host import app
from edgepick_wire.messages import (
    Incident,
    IncidentCode,
    InstallOutcome,
    Outcome,
    Refusal,
    RefusalCode,
    Report,
    ReportKind,
)


@pytest.fixture
def told(site):
    """Store an incident and a reverted installation of one device, and an incident of another."""
    refusal = Refusal(code=RefusalCode.TRIAL_FAILED, detail="3 of 16 agree", hint="see the report")
    reverted = InstallOutcome(model="digits", manifest="a" * 64, outcome=Outcome.REVERTED, sequence=3, refusal=refusal)
    hung = Incident(code=IncidentCode.RUNNER_HUNG, detail="no answer for 5 s", model="digits")
    full = Incident(code=IncidentCode.STORAGE_FULL, detail="12 KiB are missing")
    with app.store_of(site.settings()) as store:
        for number, (device, part) in enumerate([("pi-1", hung), ("pi-2", full), ("pi-1", reverted)]):
            kind = ReportKind.INSTALL if isinstance(part, InstallOutcome) else ReportKind.INCIDENT
            report = Report(
                id=f"r-{number}", device=device, session=1, recorded_at=0.0, kind=kind, **{kind.value: part}
            )
            store.add_report(report, at=number)


def test_history_tells_what_happened_on_one_device(told, site, edgepick):
    """Incidents and outcomes of that device are told with their reasons, oldest first; no broker is needed."""
    done = edgepick("devices", "history", "pi-1")

    lines = done.out.splitlines()
    assert done.code == 0
    assert "runner-hung: no answer for 5 s" in lines[1]
    assert "reverted: 3 of 16 agree" in lines[2]
    assert "pi-2" not in done.out
    assert len(lines) == 3


def test_history_as_json_ends_with_the_latest(told, site, edgepick):
    """--last bounds the list from its end, and --json gives the reports as they were sent."""
    done = edgepick("devices", "history", "pi-1", "--last", "1", "--json")

    (report,) = json.loads(done.out)
    assert report["install"]["outcome"] == "reverted"


def test_history_of_a_silent_device_says_who_stores(site, edgepick):
    """Without a database nothing is made, and the person is told which service stores reports."""
    done = edgepick("devices", "history", "pi-9")

    assert "edgepick serve" in done.out
    assert not (site.folder / "edgepick.db").exists()
