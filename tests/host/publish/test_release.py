"""From a variant to a release: preference, runtimes, and what a target is told."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepick_host.core.chunking import describe
from edgepick_host.core.release import (
    Wish,
    assign,
    build_manifest,
    content_label,
    measure_request,
    memory_limit,
    ranked,
    runtimes_for,
    with_assignment,
)
from edgepick_host.core.variants import VariantSet
from edgepick_host.errors import InputFileError
from edgepick_profiles.load import load_profile
from edgepick_wire.ids import digest_of
from edgepick_wire.manifest import ModelFormat, RuntimeChoice, RuntimeName
from edgepick_wire.messages import Assignment
from edgepick_wire.metrics import MeasurePlan
from fakes.host_site import variant

PI = "raspberry-pi-4"
OLD, BEST, OTHER = (digest_of(name.encode()) for name in ("old", "best", "other"))


def variants(*made, tolerance: float = 0.01) -> VariantSet:
    return VariantSet(
        model="digits",
        source_sha256="0" * 64,
        golden="golden.npz",
        float_accuracy=0.97,
        max_accuracy_drop=tolerance,
        profiles=(PI,),
        variants=made,
    )


def test_front_first_then_small_then_accurate():
    """The Pareto front comes first, then the smallest within tolerance, then the most accurate of the rest."""
    found = variants(
        variant("bad", bytes(10), drop=0.5),
        variant("worse", bytes(5), drop=0.6),
        variant("large-ok", bytes(300), drop=0.0),
        variant("small-ok", bytes(100), drop=0.01),
        variant("front-large", bytes(400), pareto=(PI,)),
        variant("front-small", bytes(50), drop=0.005, pareto=(PI,)),
    )

    order = [v.name for v in ranked(found, profile=PI)]

    assert order == ["front-small", "front-large", "small-ok", "large-ok", "bad", "worse"]


def test_without_labels_agreement_decides():
    """Without labels the share of changed answers stands in for the accuracy drop."""
    near = variant("near", bytes(200), drop=None)
    far = replace(variant("far", bytes(100), drop=None), quality=replace(near.quality, agreement=0.5))

    assert [v.name for v in ranked(variants(near, far))] == ["near", "far"]


def test_only_variants_of_the_profile_are_ranked():
    """A variant that is not for a profile is not in its order."""
    found = variants(variant("a", b"a"), variant("b", b"b", profiles=("coral-dev-board",)))

    assert [v.name for v in ranked(found, profile=PI)] == ["a"]


def test_label_is_of_the_content():
    """The derived label depends on the models' content alone."""
    one = variants(variant("a", b"1"), variant("b", b"2"))
    swapped = variants(variant("b", b"2"), variant("a", b"1"))
    other = variants(variant("a", b"1"), variant("b", b"3"))

    assert content_label(one) == content_label(swapped) != content_label(other)


def test_runtimes_of_several_profiles_merge():
    """One runtime of two profiles is one choice with both accelerators, the CPU last, the fewest threads."""
    pi = load_profile(PI)
    choices = (RuntimeChoice(name=RuntimeName.LITERT, accelerators=("cpu",), threads=4),)
    tpu = (RuntimeChoice(name=RuntimeName.LITERT, accelerators=("edgetpu", "cpu"), threads=1),)

    found = runtimes_for(variant("a", b"a"), [replace(pi, runtimes=choices), replace(pi, name="b", runtimes=tpu)])

    assert found == (RuntimeChoice(name=RuntimeName.LITERT, accelerators=("edgetpu", "cpu"), threads=1),)


def test_only_runtimes_that_read_the_format():
    """An ONNX variant names ONNX Runtime and nothing that reads .tflite."""
    found = runtimes_for(variant("a", b"a", kind=ModelFormat.ONNX), [load_profile("jetson-orin-nano")])

    assert {choice.name for choice in found} == {RuntimeName.ONNXRUNTIME}


def test_profile_that_cannot_read_the_format():
    """A variant that no runtime of a profile reads is refused, naming both."""
    with pytest.raises(InputFileError, match=r"'a' is onnx.*mcu-cortex-m4"):
        runtimes_for(variant("a", b"a", kind=ModelFormat.ONNX), [load_profile("mcu-cortex-m4")])


def test_memory_limit_is_the_roomiest():
    """One manifest for several profiles never kills a model that the roomiest of them allows."""
    pi = load_profile(PI)
    small, large, none = (replace(pi, budgets=replace(pi.budgets, peak_rss_bytes=limit)) for limit in (10, 20, None))

    assert memory_limit([small, large]) == 20
    assert memory_limit([small, none]) is None
    assert memory_limit([]) is None


def test_manifest_requires_the_self_test():
    """Every manifest carries its golden self-test and demands that the agent knows it."""
    made = variant("a", b"a")
    files = [describe("model.tflite", [b"a"]).entry, describe("golden.npz", [b"g"]).entry]
    manifest = build_manifest(
        made,
        fleet="main",
        variants=variants(made),
        version="1",
        security_epoch=3,
        files=files,
        profiles=[load_profile(PI)],
    )

    assert manifest.requires == ("golden",)
    assert manifest.golden.file == "golden.npz"
    assert (manifest.golden.min_agreement, manifest.golden.max_mean_abs_error) == (0.9, 0.1)
    assert manifest.security_epoch == 3
    assert manifest.provenance["recipe"] == "a: quantize(bits=8)"


@given(runs=st.integers(1, 1000), manifest=st.binary(min_size=1, max_size=4))
def test_request_ids_are_stable(runs, manifest):
    """The same manifest and plan give the same id; another plan gives another."""
    digest, plan = digest_of(manifest), MeasurePlan(min_runs=runs)

    first = measure_request(digest, plan)

    assert first == measure_request(digest, MeasurePlan(min_runs=runs))
    assert first.id != measure_request(digest, MeasurePlan(min_runs=runs + 1)).id
    assert first.id.startswith(digest[:12] + "-")


def test_first_publication_activates_the_best():
    """A target that runs nothing is told to run the best and to measure all."""
    told = assign(None, Wish(model="digits", best=BEST, measure=(BEST, OTHER)))

    assert told.active == BEST
    assert [m.manifest for m in told.measure] == [BEST, OTHER]


def test_what_runs_goes_on_running():
    """A target that runs something keeps it and its rollout; only measuring is new."""
    current = Assignment(model="digits", active=OLD, rollout="r1")

    told = assign(current, Wish(model="digits", best=BEST, measure=(BEST,)))

    assert (told.active, told.rollout) == (OLD, "r1")
    assert [m.manifest for m in told.measure] == [BEST]


def test_forced_activation_ends_the_rollout():
    """A forced activation replaces what runs, and no longer speaks for a rollout."""
    told = assign(Assignment(model="digits", active=OLD, rollout="r1"), Wish(model="digits", best=BEST, forced=OTHER))

    assert (told.active, told.rollout) == (OTHER, None)


def test_orders_for_the_active_and_the_same_version_stay():
    """Measuring the active variant and siblings of the version goes on; orders of other versions end."""
    gone = digest_of(b"gone")
    current = Assignment(
        model="digits", active=OLD, measure=tuple(measure_request(m, MeasurePlan()) for m in (OLD, gone, OTHER))
    )

    told = assign(current, Wish(model="digits", best=BEST, measure=(BEST,), siblings=frozenset({BEST, OTHER})))

    assert [m.manifest for m in told.measure] == [OLD, OTHER, BEST]


def test_no_measure_leaves_orders_alone():
    """Publishing without measuring changes no order."""
    current = Assignment(model="digits", active=OLD, measure=(measure_request(OTHER, MeasurePlan()),))

    assert assign(current, Wish(model="digits", best=BEST)) == current


def test_assigning_twice_changes_nothing():
    """What a target was told by a publication stays the same when it is published again."""
    wish = Wish(model="digits", best=BEST, measure=(BEST, OTHER), siblings=frozenset({BEST, OTHER}))
    once = assign(None, wish)

    assert assign(once, wish) == once


def test_other_models_are_left_alone():
    """Telling a target about one model keeps what it was told about others."""
    other = Assignment(model="voices", active=OLD)

    told = with_assignment((other, Assignment(model="digits")), Assignment(model="digits", active=BEST))

    assert told == (Assignment(model="digits", active=BEST), other)


def test_orders_to_measure_have_the_budget_too():
    """A variant is not fetched for measuring beyond what running it may cost; another limit replaces the first."""
    given = assign(None, Wish(model="digits", best=BEST, measure=(BEST, OTHER), max_bytes=5000))

    again = assign(given, Wish(model="digits", best=BEST, measure=(BEST, OTHER), siblings=frozenset({BEST, OTHER})))
    more = assign(given, Wish(model="digits", best=BEST, measure=(BEST, OTHER), max_bytes=9000))

    assert [order.max_bytes for order in given.measure] == [5000, 5000]
    assert again == given
    assert [order.max_bytes for order in more.measure] == [9000, 9000]
    assert [order.id for order in more.measure] == [order.id for order in given.measure]


def test_a_byte_budget_belongs_to_the_activation():
    """A budget goes with what it was given for, stays when the same is said again, and ends with the next variant."""
    given = assign(None, Wish(model="digits", best=BEST, max_bytes=5000))

    again = assign(given, Wish(model="digits", best=BEST))
    other = assign(given, Wish(model="digits", best=BEST, forced=OTHER))

    assert (given.active, given.max_bytes) == (BEST, 5000)
    assert again == given
    assert (other.active, other.max_bytes) == (OTHER, None)
