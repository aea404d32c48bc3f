"""What limits of an operator may say, and what is told to one who contradicts himself."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepick_host.core.constraints import UNITS, Bounded, Constraint, parse_constraints
from edgepick_host.core.objective import Metric, Term, parse_objective
from edgepick_host.errors import ConfigError

CAPPED = [figure for figure in Bounded if figure is not Bounded.ACCURACY]
LIMITS = st.one_of(
    st.builds(Constraint, figure=st.just(Bounded.ACCURACY), limit=st.floats(1e-6, 1)),
    st.builds(Constraint, figure=st.sampled_from(CAPPED), limit=st.floats(1e-3, 1e15)),
)


def test_the_operators_objective_is_read():
    """The example of the manual: least energy, with a floor of accuracy and a cap on the tail."""
    objective = parse_objective("minimise energy subject to accuracy >= 0.97 and p95 <= 20 ms")

    assert objective.primary is Metric.ENERGY
    assert objective.constraints == (
        Constraint(figure=Bounded.ACCURACY, limit=0.97),
        Constraint(figure=Bounded.TAIL, limit=20e6),
    )


@given(st.lists(LIMITS, min_size=1, max_size=6, unique_by=lambda c: c.figure))
def test_limits_read_back_what_they_print(limits):
    """The text of constraints parses to the same constraints, to the last bit, alone and behind an objective."""
    text = " and ".join(str(c) for c in limits)

    assert parse_constraints(text) == tuple(limits)
    objective = parse_objective(f"weighted latency=0.7 size=0.3 subject to {text}")
    assert parse_objective(str(objective)) == objective


@given(st.text(max_size=60))
def test_whatever_a_person_writes_is_read_or_refused_with_a_hint(text):
    """No text leads to anything but constraints or a ConfigError that names the text."""
    found, refused = (), None
    try:
        found = parse_constraints(text)
    except ConfigError as error:
        refused = error

    assert all(0 < c.limit < math.inf for c in found)
    assert bool(found) is not bool(refused and "constraint" in str(refused) and refused.hint)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("p95 <= 20 ms and p95 <= 30 ms", "p95 is limited twice"),
        ("p95 <= 20 ms and p95 >= 30 ms", "p95 takes <="),
        ("accuracy >= 0.9 and accuracy <= 0.8", "accuracy takes >="),
        ("accuracy >= 97", "accuracy lies above 0 up to 1"),
        ("accuracy >= 0", "accuracy lies above 0 up to 1"),
        ("p95 <= 0 ms", "no variant can keep it"),
        ("throughput >= 30", "nobody measures 'throughput'; a limit may be set on accuracy, latency, p95"),
        ("p95 <= 20", "p95 is given in ns, us, µs, ms, s, found 'no unit'"),
        ("size <= 20 ms", "size is given in b, kb"),
        ("p95 < 20 ms", "p95 takes <="),
        ("p95 <= 1.2.3 ms", "'1.2.3' is no number"),
        ("quick", "expected FIGURE <= NUMBER UNIT"),
        ("p95 <= 1e999 ms", "no variant"),
    ],
)
def test_a_limit_that_cannot_be_meant_is_refused_with_the_reason(text, why):
    """A contradiction, an unmeasured figure, a wrong unit or direction: the message says which."""
    with pytest.raises(ConfigError) as refused:
        parse_objective(f"minimise latency subject to {text}")

    assert why in str(refused.value)


def test_every_unit_means_what_it_says():
    """20 ms is 20 million nanoseconds, 97 % is 0.97, 2 MiB is two times 1024 squared, 3 mJ three thousand uJ."""
    limits = parse_constraints("p95 <= 20 ms and accuracy >= 97% and size <= 2 MiB and energy <= 3 mJ")

    assert [c.limit for c in limits] == [20e6, 0.97, 2 * 1024**2, 3000.0]
    assert set(UNITS) == set(Bounded)


def test_weights_take_limits_too():
    """A weighted objective with a limit keeps its weights."""
    objective = parse_objective("weighted latency=0.7 size=0.3 subject to memory <= 64 MiB")

    assert objective.terms == (Term(metric=Metric.LATENCY, weight=0.7), Term(metric=Metric.SIZE, weight=0.3))
    assert str(objective).endswith("subject to memory <= 64 mib")
