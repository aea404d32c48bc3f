"""What a person may write for waves and queries, and whom each step reaches."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from edgepick_host.core.schedule import Count, Growth, Share, parse_waves, schedule, wave_numbers
from edgepick_host.core.selector import Query, Term, parse_query
from edgepick_host.core.waves import Plan, Seat, seat
from edgepick_host.errors import ConfigError
from edgepick_wire.errors import MalformedError

LABELS = st.dictionaries(st.sampled_from(["site", "region", "group"]), st.sampled_from(["a", "b", "c"]))
TERMS = st.builds(
    Term,
    name=st.sampled_from(["site", "region", "profile", "rack-2"]),
    values=st.lists(st.from_regex(r"[a-c]\*?", fullmatch=True), min_size=1, max_size=3).map(tuple),
    negated=st.booleans(),
)
STEPS = st.one_of(
    st.lists(st.integers(1, 99), unique=True, max_size=3).map(lambda p: [f"{n}%" for n in sorted(p)]),
    st.lists(st.integers(1, 30), unique=True, max_size=3).map(lambda p: [str(n) for n in sorted(p)]),
    st.just(["site=a", "region in (a, b)"]),
    st.just(["2", "site=a", "50%"]),
)


@given(
    STEPS,
    st.sampled_from(["100%", "exponential:2", "exponential:1.5"]),
    st.integers(1, 4),
    st.lists(LABELS, min_size=1),
)
def test_every_device_is_in_one_wave_and_the_canary_keeps_its_size(steps, last, canary, devices):
    """Whatever the steps: the canary comes first, nobody is left out, and numbers have no gap beyond the last."""
    numbers = wave_numbers(schedule((*steps, last)), canary, devices)

    assert len(numbers) == len(devices)
    assert numbers[:canary] == [0] * min(canary, len(devices))
    assert all(number > 0 for number in numbers[canary:])
    if last == "100%":
        assert max(numbers) <= len(steps) + 1


@given(st.lists(LABELS, min_size=1, max_size=50), st.integers(1, 3))
def test_each_step_reaches_whom_it_says(devices, canary):
    """A query reaches every device that matches, a number so many, a share its part rounded up, the last the rest."""
    numbers = wave_numbers(schedule(("site=a", "10", "50%", "100%")), canary, devices)

    assert all(n <= 1 for n, labels in zip(numbers, devices, strict=True) if labels.get("site") == "a")
    after = [sum(n <= wave for n in numbers) for wave in range(5)]
    assert after[2] == max(after[1], min(10, len(devices)))
    assert after[3] == max(after[2], math.ceil(len(devices) / 2))
    assert after[4] == len(devices)


def test_waves_that_grow_multiply_by_their_factor():
    """Each wave is twice the one before, beginning with the canary; the last takes what is left."""
    numbers = wave_numbers(schedule(("exponential:2",)), 3, [{}] * 100)

    assert [numbers.count(wave) for wave in range(6)] == [3, 6, 12, 24, 48, 7]


def test_a_rollout_has_as_many_waves_as_the_largest_stratum_needs():
    """With ten thousand devices and a factor of ten the fifth wave is the last."""
    members = seat(
        "r",
        Plan(version="1", steps=("exponential:10",)),
        [Seat(device=f"d{n}", online=True, previous=None) for n in range(10_000)],
    )

    assert max(m.wave for m in members) == 4


def test_the_labels_of_a_device_decide_its_wave():
    """A group is a label: those of the lab go after the canary, the others last."""
    seats = [
        Seat(device=f"d{n}", online=True, previous=None, facts={"site": "lab" if n % 3 else "plant"}) for n in range(9)
    ]

    waves = {m.device: m.wave for m in seat("r", Plan(version="1", steps=("site=lab", "100%")), seats)}

    for s in seats:
        assert waves[s.device] in ((0, 1) if s.facts["site"] == "lab" else (0, 2))


def test_steps_are_read_as_they_are_meant():
    """Commas in parentheses belong to the query."""
    assert schedule(parse_waves("10, site in (a,b), 50%,100%"))[0] == Count(devices=10)
    assert parse_waves("site in (a,b) and group=early, 100%") == ("site in (a, b) and group=early", "100%")
    assert schedule(parse_waves("10%, exponential: 2")) == (Share(share=0.1), Growth(factor=2.0))


@pytest.mark.parametrize(
    "text", ["exponential:2, 100%", "exponential:1", "site=lab", "0, 100%", "5, 5, 100%", "site=a and , 100%"]
)
def test_steps_that_reach_nobody_or_not_everybody_are_refused(text):
    """The message says what a list of waves looks like, and that --only leaves devices out."""
    with pytest.raises(ConfigError) as refused:
        parse_waves(text)

    assert "--only" in refused.value.hint


@given(st.lists(TERMS, min_size=1, max_size=3))
def test_a_query_prints_as_it_is_read(terms):
    """Reading a printed query gives the same query."""
    query = Query(terms=tuple(terms))

    assume(not _impossible(query))

    assert parse_query(str(query)) == query


def _impossible(query: Query) -> bool:
    """Return whether one label would need two plain values."""
    plain = [t for t in query.terms if not t.negated and "*" not in "".join(t.values)]
    return any(
        not set.intersection(*(set(t.values) for t in plain if t.name == name)) for name in {t.name for t in plain}
    )


@given(LABELS)
def test_a_query_and_its_opposite_divide_the_fleet(labels):
    """Every device matches exactly one of the two, a device without the label the opposite."""
    assert parse_query("site in (a, b)").matches(labels) is not parse_query("site not in (a, b)").matches(labels)
    assert parse_query("").matches(labels)
    assert parse_query("site=a*").matches(labels) is (labels.get("site") == "a")


@pytest.mark.parametrize(
    "text", ["lab", "site=", "=lab", "site=lab or region=eu", "site in ()", "site in (a", "site==lab"]
)
def test_a_query_that_cannot_be_read_is_refused_with_an_example(text):
    """What is not a condition is shown beside one."""
    with pytest.raises(MalformedError, match="site=lab"):
        parse_query(text)


def test_a_query_that_no_device_can_match_is_refused():
    """One label cannot have two values."""
    with pytest.raises(MalformedError, match="contradicts itself: site"):
        Plan(version="1", only="site=lab and site=plant")
