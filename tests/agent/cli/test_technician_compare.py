"""What ``compare`` says against two figures side by side, and which files it does not take."""

import json
from dataclasses import fields, replace

import pytest

from edgepick_agent.cli.render import as_json_text
from edgepick_agent.core.profile import PROFILE_SCHEMA, Profile
from edgepick_wire.metrics import EnergySummary, GoldenResult, Measurement, MeasurePlan
from fakes.runner_launcher import measurement

MEASURED = measurement(MeasurePlan())
PROFILE = Profile(**{field.name: getattr(MEASURED, field.name) for field in fields(Measurement)})
PACKAGE = EnergySummary(gross_uj=1000.0, source="powercap-rapl:package-0", scope="package")
SUPPLY = EnergySummary(gross_uj=9000.0, source="external-meter", scope="supply")
WRONG = GoldenResult(
    samples=10, agreement=0.1, mean_abs_error=1.0, accuracy=None, finite=True, passed=False, detail="no"
)


def compared(command, folder, first, second):
    """Return what the command did with the two."""
    for name, each in (("a", first), ("b", second)):
        (folder / name).write_text(as_json_text(each))
    return command("compare", folder / "a", folder / "b", "--json")


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        (
            {"energy": PACKAGE},
            {"energy": SUPPLY},
            "energy by powercap-rapl:package-0 (covers the package) against external-meter (covers the supply)",
        ),
        ({}, {"golden": WRONG}, "the second gives wrong answers: no"),
        ({"cpus": (0, 1)}, {}, "on CPUs 0, 1 against all CPUs"),
    ],
)
def test_what_was_not_measured_alike_is_one_doubt(command, tmp_path, first, second, said):
    """Energy of other things, wrong answers and other CPUs are each said once, and only where they are."""
    one = compared(command, tmp_path, replace(PROFILE, **first), replace(PROFILE, **first))
    two = compared(command, tmp_path, replace(PROFILE, **first), replace(PROFILE, **second))

    new = [doubt for doubt in json.loads(two.stdout)["doubts"] if doubt not in json.loads(one.stdout)["doubts"]]
    assert new == [said]


def test_energy_that_one_of_them_lacks_is_no_doubt(command, tmp_path):
    """Where there is nothing to set against the other, nothing is said of the sensor."""
    found = compared(command, tmp_path, replace(PROFILE, energy=PACKAGE), PROFILE)

    assert "energy" not in " ".join(json.loads(found.stdout)["doubts"])


@pytest.mark.parametrize("runs", [0, -4])
def test_a_measurement_of_no_runs_is_none(command, tmp_path, runs):
    """A file that says so is refused by its name and field."""
    nothing = replace(PROFILE, latency=replace(PROFILE.latency, runs=runs))

    found = compared(command, tmp_path, PROFILE, nothing)

    assert found.exit_code == 2
    assert f"b: not a measurement: latency.runs is {runs}" in found.output


def test_a_profile_of_a_newer_schema_is_refused(command, tmp_path):
    """What its fields mean is not known here, so that nothing is said of them."""
    newer = replace(PROFILE, profile_schema=PROFILE_SCHEMA + 1)

    found = compared(command, tmp_path, newer, PROFILE)

    assert found.exit_code == 2
    assert f"profile_schema is {PROFILE_SCHEMA + 1}" in found.output
