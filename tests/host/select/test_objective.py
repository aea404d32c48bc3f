"""What an objective may say, and how it orders variants."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepick_host.core.objective import DEFAULT_OBJECTIVE, Method, Metric, dominated, parse_objective, rank
from edgepick_host.errors import ConfigError

FIGURES = st.dictionaries(
    st.sampled_from("abcdef"), st.fixed_dictionaries({m: st.floats(0.01, 100) for m in Metric}), min_size=1
)
OBJECTIVES = [
    "minimise latency",
    "minimize size",
    "maximise accuracy",
    "minimise memory within 5% then latency",
    "weighted latency=0.7 size=0.3",
]


@pytest.mark.parametrize("text", OBJECTIVES)
def test_an_objective_reads_back_what_it_prints(text):
    """The text of a parsed objective parses to the same objective."""
    objective = parse_objective(text)

    assert parse_objective(str(objective)) == objective


def test_one_metric_alone_gets_the_default_tie_breakers():
    """`minimise latency` is the default objective; `minimise size` falls back on latency and memory."""
    assert parse_objective("minimise latency") == DEFAULT_OBJECTIVE
    assert [t.metric for t in parse_objective("minimise size").terms] == [
        Metric.SIZE,
        Metric.LATENCY,
        Metric.MEMORY,
    ]


@pytest.mark.parametrize(
    "text", ["", "fast", "minimise", "minimise beauty", "minimise size then size", "weighted", "weighted size=x",
             "weighted size=0", "minimise size within 3", "minimise size within 1.2.3%"]
)  # fmt: skip
def test_anything_else_is_refused_with_what_is_allowed(text):
    """An objective that cannot be read names the grammar and every metric."""
    with pytest.raises(ConfigError, match="METRIC one of latency, p95, memory, size, energy, error"):
        parse_objective(text)


@given(FIGURES, st.sampled_from(OBJECTIVES))
def test_a_ranking_names_everybody_once_and_begins_with_an_undominated_one(figures, text):
    """The ranking is a permutation, and nobody is better than its first in everything that is asked for."""
    objective = parse_objective(text)
    asked = [t.metric for t in objective.terms]

    order = rank(objective, figures)

    assert sorted(order) == sorted(figures)
    if objective.method is Method.WEIGHTED or not any(t.tie for t in objective.terms):
        first = figures[order[0]]
        assert not any(all(f[m] < first[m] for m in asked) for f in figures.values())


@given(FIGURES, st.sampled_from(OBJECTIVES), st.sampled_from([0.25, 2.0, 1024.0]))
def test_units_do_not_matter(figures, text, factor):
    """Measuring in another unit changes neither the ranking nor who is dominated."""
    scaled = {name: {m: v * factor for m, v in f.items()} for name, f in figures.items()}
    objective = parse_objective(text)

    assert rank(objective, scaled) == rank(objective, figures)
    assert dominated(scaled, list(Metric)) == dominated(figures, list(Metric))


@given(FIGURES)
def test_somebody_is_never_dominated(figures):
    """The Pareto front is never empty, and a dominated variant names a rival that is as good everywhere."""
    beaten = dominated(figures, list(Metric))

    assert len(beaten) < len(figures)
    for name, rival in beaten.items():
        assert all(figures[rival][m] <= figures[name][m] for m in Metric)
