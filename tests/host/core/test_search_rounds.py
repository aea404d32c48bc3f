"""What the search composes, when it stops, and that stopping early loses nothing."""

from collections.abc import Mapping
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from test_plan_candidates import BOTH, ONNX, TFLITE

from edgepick_host.core.plan import objection, variant_name
from edgepick_host.core.recipe_names import parse
from edgepick_host.core.recipes import RECIPES, traits
from edgepick_host.core.search import LADDERS, Finding, Space, family, next_round, weighted_layers
from edgepick_host.core.variants import RejectionCode
from edgepick_profiles.load import load_all, load_profile
from edgepick_profiles.schema import KNOWN_RECIPES, Rules
from edgepick_wire.ids import check_name
from edgepick_wire.manifest import ModelFormat

PASSES = frozenset(
    f"{f}_{name}"
    for f in ("tflite", "onnx")
    for name in ("cleanup", "equalize", "low_rank", "cluster", "prune", "float16", "dynamic_int8", "weight_only")
) | {"identity", "tflite_static_int8", "onnx_static_qdq"}
TRAINING = frozenset({"train_qat", "train_distill", "train_prune_channels", "train_prune"})
PROFILES = load_all()

losses = st.floats(0.0, 0.05)
spaces = st.builds(
    Space,
    models=st.sampled_from([BOTH, {ModelFormat.TFLITE: TFLITE}, {ModelFormat.ONNX: ONNX}]),
    profiles=st.lists(st.sampled_from(list(PROFILES.values())), min_size=1, max_size=4, unique_by=lambda p: p.name).map(
        tuple
    ),
    passes=st.sampled_from([PASSES, PASSES - {"tflite_equalize", "onnx_cluster"}]),
    training=st.sampled_from([frozenset(), TRAINING]),
    cleans=st.sampled_from([frozenset(), frozenset(ModelFormat)]),
)


def judged(candidate, loss: float, limit: float = 0.01) -> Finding:
    """Return what a model of that loss would be found to be."""
    if loss > limit:
        return Finding(fell=dict.fromkeys(candidate.profiles, RejectionCode.ACCURACY), loss=loss, error=loss)
    return Finding(kept=frozenset(candidate.profiles), loss=loss, error=loss)


def searched(space: Space, loss_of) -> tuple[list, Mapping[str, Finding]]:
    """Return every round's candidates, and what was found of each."""
    found: dict[str, Finding] = {}
    rounds = []
    while candidates := next_round(space, found):
        rounds.append(candidates)
        found |= {candidate.name: judged(candidate, loss_of(candidate.name)) for candidate in candidates}
        assert len(rounds) < 30
    return rounds, found


@settings(max_examples=40, deadline=None)
@given(space=spaces, dice=st.randoms(use_true_random=False))
def test_every_candidate_keeps_the_rules_of_its_profiles(space, dice):
    """Whatever is found on the way, nothing is composed that a profile forbids, that lacks a pass, or twice."""
    rounds, _ = searched(space, lambda _: dice.uniform(0, 0.03))

    names = [candidate.name for candidates in rounds for candidate in candidates]
    assert len(names) == len(set(names))
    for candidate in (c for candidates in rounds for c in candidates):
        facts = space.models[candidate.recipe.format]
        assert check_name("variant", candidate.name) == candidate.name
        assert {step.pass_name for step in candidate.recipe.steps} <= space.passes
        assert {step.pass_name for step in candidate.recipe.training} <= space.training
        for name in candidate.profiles:
            assert objection(candidate.recipe, facts, PROFILES[name].rules) is None


@settings(max_examples=20, deadline=None)
@given(space=spaces, salt=st.integers(0, 1000))
def test_the_order_is_the_same_every_time(space, salt):
    """The same findings give the same rounds: nothing depends on the order of sets or on earlier calls."""

    def loss(name: str) -> float:
        return (hash_of(name) + salt) % 97 / 97 * 0.03

    first, second = searched(space, loss)[0], searched(space, loss)[0]

    assert first == second


def hash_of(name: str) -> int:
    return sum(ord(c) * (i + 1) for i, c in enumerate(name))


@settings(max_examples=40, deadline=None)
@given(base=st.lists(losses, min_size=4, max_size=4), steps=st.lists(st.floats(0, 0.02), min_size=12, max_size=12))
def test_a_rung_that_is_not_climbed_would_have_fallen(base, steps):
    """Where aggressiveness never helps, the pruned search keeps exactly what the exhaustive one would keep."""
    space = Space(models={ModelFormat.TFLITE: TFLITE}, profiles=(PROFILES["raspberry-pi-3"],), passes=PASSES)
    grown = {
        rung: sum(steps[3 * i : 3 * i + j + 1]) for i, ladder in enumerate(LADDERS) for j, rung in enumerate(ladder)
    }

    def loss(name: str) -> float:
        own = base[hash_of(name.rsplit(".", maxsplit=1)[-1]) % 4] / 5
        return own + next((grown[r] for r in grown if r in name), 0.0)

    _, found = searched(space, loss)

    plain = [name for name, finding in found.items() if finding.kept and not any(r in name for r in grown)]
    for ladder in LADDERS:
        tried = [r for r in ladder if any(f"{r}." in name for name in found)]
        for rung in ladder:
            if rung not in tried and plain and tried:
                milder = next(name for name in found if f"{tried[-1]}." in name)
                assert loss(milder.replace(tried[-1], rung)) >= loss(milder) > 0.01


def test_mixed_precision_halves_its_way_to_the_fewest_float_layers():
    """Where int8 loses too much, the fewest layers that must stay float are found in a logarithmic number of tries."""
    layers = replace(TFLITE, operators=TFLITE.operators * 16)
    space = Space(models={ModelFormat.TFLITE: layers}, profiles=(load_profile("raspberry-pi-3"),), passes=PASSES)

    def loss(name: str) -> float:
        kept = name.partition(".keep")[2].partition("-")[0]
        return 0.0 if kept and int(kept) >= 5 else 0.04

    _, found = searched(space, loss)

    tried = sorted(int(name.partition(".keep")[2].partition("-")[0]) for name in found if ".keep" in name)
    assert weighted_layers(layers) == 32
    assert min(k for k in tried if found[next(n for n in found if f".keep{k}-" in n)].kept) == 5
    assert len(tried) <= 5


def test_integer_only_devices_never_mix():
    """A device that runs integers only is offered no layer in float, however much int8 loses."""
    space = Space(models=BOTH, profiles=(load_profile("coral-dev-board"),), passes=PASSES)

    _, found = searched(space, lambda _: 0.04)

    assert found
    assert not any(".keep" in name for name in found)


def test_training_needs_a_task():
    """Without training passes nothing trains; with them, a model that lost too much is trained for int8."""
    space = Space(models=BOTH, profiles=(load_profile("raspberry-pi-4"),), passes=PASSES)

    without = searched(space, lambda _: 0.04)[1]
    with_task = searched(replace(space, training=TRAINING), lambda _: 0.04)[1]

    assert not any(name.startswith("qat.") for name in without)
    assert {"qat.static_wi8_ai8-tflite", "qat.static_wi8_ai8-onnx"} <= set(with_task)


def test_with_a_task_thinner_networks_are_tried_though_int8_holds():
    """Fewer channels and blocks, trained with the whole network's answers and then int8, leave out no format."""
    space = Space(models=BOTH, profiles=(load_profile("raspberry-pi-4"),), passes=PASSES, training=TRAINING)

    found = searched(space, lambda _: 0.0)[1]

    assert {"channels20_shallow.static_wi8_ai8-tflite", "channels20_shallow.static_wi8_ai8-onnx"} <= set(found)
    assert not any(name.startswith("qat.") for name in found)


def test_training_waits_until_nothing_cheaper_is_wanted():
    """No round mixes what trains with what does not, and what trains comes last."""
    space = Space(models=BOTH, profiles=(load_profile("raspberry-pi-4"),), passes=PASSES, training=TRAINING)

    rounds = searched(space, lambda _: 0.0)[0]

    trains = [{bool(candidate.recipe.training) for candidate in candidates} for candidates in rounds]
    assert trains == sorted(trains, key=lambda kinds: True in kinds)
    assert trains[-1] == {True}
    assert all(len(kinds) == 1 for kinds in trains)


def test_under_a_budget_each_round_trains_so_many_networks():
    """A round holds one training, in every format that wants it; in the end the same was tried as without a limit."""
    space = Space(models=BOTH, profiles=(load_profile("raspberry-pi-4"),), passes=PASSES, training=TRAINING)

    rounds, found = searched(replace(space, trainings=1), lambda _: 0.0)

    trainings = [{str(c.recipe.training) for c in candidates if c.recipe.training} for candidates in rounds]
    assert {len(each) for each in trainings} == {0, 1}
    assert any(len({c.recipe.format for c in candidates if c.recipe.training}) == 2 for candidates in rounds)
    assert set(found) == set(searched(space, lambda _: 0.0)[1])


def test_profiles_recipes_come_first():
    """What a profile names is tried in the first round, in its order, before anything else."""
    profile = replace(load_profile("raspberry-pi-3"), recipes=("float16", "float32"))

    first = next_round(Space(models=BOTH, profiles=(profile,), passes=PASSES), {})

    assert [candidate.recipe.name for candidate in first][:2] == ["float16", "float32"]


def test_siblings_cost_the_same_and_others_do_not():
    """Calibration, bias and equalization leave the family; what changes files or kernels does not."""

    def of(name: str, model_format: ModelFormat = ModelFormat.TFLITE) -> str:
        recipe = parse(name, model_format)
        assert recipe is not None
        return family(recipe)

    assert of("eq.static_wi8_ai8.mse.bias") == of("static_wi8_ai8")
    for other in ("static_wi8_ai8_float_io", "prune20.static_wi8_ai8", "static_wi8_ai8.keep2", "static_wi8_ai16"):
        assert of(other) != of("static_wi8_ai8")
    assert of("static_wi8_ai8") != of("static_wi8_ai8", ModelFormat.ONNX)


def test_what_recipes_ask_of_a_device_follows_from_their_steps():
    """For every recipe that a profile may name, the steps say what the profiles' table says."""
    for (name, model_format), recipe in RECIPES.items():
        if model_format is ModelFormat.TFLITE:
            assert traits(recipe) == KNOWN_RECIPES[name]


def test_the_grammar_refuses_what_makes_no_sense():
    """A word twice, two calibrations, a word in the wrong place, or no base at all is no recipe."""
    wrong = ("eq.eq.static_wi8_ai8", "static_wi8_ai8.mse.entropy", "mse.static_wi8_ai8", "float32.mse", "eq",
             "x.float32", "clean.qat.static_wi8_ai8", "static_wi8_ai8.keep", "", "a" * 70)  # fmt: skip

    assert [name for name in wrong if parse(name, ModelFormat.TFLITE) is not None] == []


def test_rules_forbid_before_anything_is_composed():
    """A device without int8 gets nothing with int8 in it, in any round."""
    rules: Rules = load_profile("jetson-nano").rules

    rounds, _ = searched(Space(models=BOTH, profiles=(load_profile("jetson-nano"),), passes=PASSES), lambda _: 0.0)

    for candidate in (c for candidates in rounds for c in candidates):
        assert traits(candidate.recipe).number_types <= set(rules.number_types)
        assert variant_name(candidate.recipe) == candidate.name
