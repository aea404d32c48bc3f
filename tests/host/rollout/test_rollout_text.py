"""A rollout on the terminal: each device of a few, the many by where they stand."""

import re
from dataclasses import replace

import pytest

from edgepick_host.cli import rollout_text
from edgepick_host.core.rollout import begin
from edgepick_host.core.rollout_state import RolloutState
from edgepick_host.core.waves import Member, MemberStatus, Plan
from fakes.lanes import promoted


def rollout_of(devices: int, **trouble: Member) -> RolloutState:
    """Return a rollout in its second wave, with so many devices; ``trouble`` replaces some."""
    members = tuple(
        trouble.get(f"d{n}", Member(device=f"d{n}", wave=n % 3, previous=None, status=MemberStatus.CONFIRMED))
        for n in range(devices)
    )
    return replace(begin("r-1", "digits", Plan(version="2"), now=0.0), lanes=(promoted("a" * 64, members),))


FAILED = Member(
    device="d7", wave=1, previous=None, status=MemberStatus.FAILED, returned=True, reason="its runner was killed"
)


def test_of_many_devices_those_alike_are_counted_and_the_odd_one_is_named(capsys):
    """Ten thousand lines would hide the one that matters; the numbers add up to the fleet."""
    rollout_text.print_state(rollout_of(10_000, d7=FAILED), as_json=False)

    shown = capsys.readouterr().out
    counted = re.findall(r"^pi .*?(?:confirmed|failed, returned) +(\d+) +d", shown, re.MULTILINE)
    assert sum(map(int, counted)) == 10_000
    assert len(shown.splitlines()) < 40
    assert re.search(r"failed, returned +1 +d7 +its runner was killed", shown)
    assert "--devices lists each" in shown


@pytest.mark.parametrize(("devices", "everyone"), [(40, False), (41, True)])
def test_few_devices_are_listed_each_and_so_are_many_that_are_asked_for(capsys, devices, everyone):
    """Up to a screen of them needs no asking."""
    rollout_text.print_state(rollout_of(devices, d7=FAILED), as_json=False, everyone=everyone)

    shown = capsys.readouterr().out
    assert re.findall(r"^(d\d+) ", shown, re.MULTILINE) == [f"d{n}" for n in range(devices)]


def test_reasons_of_devices_counted_together_are_named_and_counted(capsys):
    """Two are written out; how many more there are is said."""
    failed = {f"d{n}": replace(FAILED, device=f"d{n}", wave=1, reason=f"reason {n % 5}") for n in range(25)}

    rollout_text.print_state(rollout_of(100, **failed), as_json=False)

    assert "reason 0; reason 1; 3 more" in " ".join(capsys.readouterr().out.split())
