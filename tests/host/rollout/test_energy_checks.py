"""After an installation, energy is held against energy of the same kind, net of idle power or gross."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepick_host.core.checks import breach, grown, limits, parse_checks, typical
from edgepick_wire.messages import MeasuredVariant
from edgepick_wire.metrics import EnergySummary
from fleet.synthetic import manifest_of, measurement

GROWTH, JOULES = parse_checks("energy <= +10%"), parse_checks("energy <= 15 mJ")

spent = st.tuples(st.floats(1e3, 1e6), st.floats(0.01, 0.99)).map(lambda told: (told[0], told[0] * told[1]))
"""Gross, and a net one below it."""


def figures(gross, net):
    energy = EnergySummary(gross_uj=gross, net_uj=net, idle_uw=3e6, reason="no net figure" if net is None else None)
    return replace(measurement(), energy=energy)


def after(gross, net):
    return MeasuredVariant(
        request="after-r", model="digits", manifest=manifest_of("2", "new"), measurement=figures(gross, net)
    )


def kept(check, **before):
    """Return what each device has to keep that was measured before, given its gross and net energy."""
    return limits(check, {device: figures(*told) for device, told in before.items()}, list(before))


def test_a_net_energy_before_and_none_after_is_no_growth():
    """1 mJ net of 30 gross before, 30.01 gross after and no net figure: as much as before, whatever is withheld."""
    found = kept(GROWTH, d0=(30e3, 1e3))["d0"]

    assert breach(found, after(30.01e3, None)) == ""
    assert grown(found, after(30.01e3, None)) == pytest.approx(math.log(30.01 / 30))


@given(spent, st.booleans(), st.booleans(), st.sampled_from([GROWTH, JOULES]))
def test_the_same_energy_has_not_grown(told, hide_before, hide_after, check):
    """A device that takes what it took has grown by nothing, and breaks no limit on growth, whatever is withheld."""
    gross, net = told
    found = kept(check, d0=(gross, None if hide_before else net))["d0"]
    result = after(gross, None if hide_after else net)

    assert grown(found, result) == pytest.approx(0)
    assert check is JOULES or breach(found, result) == ""


@given(spent, st.booleans(), st.booleans(), st.floats(1.2, 5.0))
def test_more_energy_of_either_kind_is_found(told, hide_before, hide_after, factor):
    """A device that takes a fifth more or worse of both kinds breaks a limit of a tenth, whatever is withheld."""
    gross, net = told
    found = kept(GROWTH, d0=(gross, None if hide_before else net))["d0"]
    result = after(gross * factor, None if hide_after else net * factor)

    assert breach(found, result).startswith("energy, gross" if hide_before or hide_after else "energy is")
    assert grown(found, result) == pytest.approx(math.log(factor))


def test_who_was_not_measured_is_held_to_a_median_of_one_kind():
    """Net where every other device has a net figure; gross for all where one of them has none."""
    before = {"d0": figures(30e3, 10e3), "d1": figures(34e3, 14e3)}
    wholly = limits(GROWTH, before, ["d0", "d1", "new"])["new"]
    partly = limits(GROWTH, {**before, "d2": figures(38e3, None)}, ["d0", "d1", "d2", "new"])

    assert breach(wholly, after(33e3, 13e3)) == ""
    assert breach(wholly, after(33e3, 13.3e3)).startswith("energy is 13.3")
    for found in (partly["new"], typical(list(partly.values()))):
        assert breach(found, after(37e3, 36e3)) == ""
        assert breach(found, after(38e3, 1e3)).startswith("energy, gross of idle power,")


@pytest.mark.parametrize(
    ("gross", "net", "why"),
    [
        (14e3, None, ""),
        (30e3, 12e3, ""),
        (30e3, 16e3, "energy is 16"),
        (30e3, None, "energy, gross of idle power, is 30"),
    ],
)
def test_a_limit_in_joules_is_kept_by_the_net_energy_or_by_a_gross_one_within_it(gross, net, why):
    """A device that shows neither has not shown that it keeps the limit, and is told by which energy."""
    found = limits(JOULES, {}, ["d0"])["d0"]

    assert breach(found, after(gross, net)).partition(" mj ")[0] == why
