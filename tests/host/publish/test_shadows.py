"""Shadows from the operator's side: who is told, who is not able to, and what the reports say."""

import json

import pytest
from click.testing import CliRunner

from edgepick_host.cli.main import cli
from edgepick_host.cli.shadow import agreement_text
from edgepick_host.core.records import Release
from edgepick_host.core.release import Wish, assign
from edgepick_host.errors import StateError
from edgepick_host.service.shadows import find_release, results
from edgepick_wire.messages import Assignment, MeasureRequest, Report, ReportKind, ShadowedVariant
from edgepick_wire.shadow import OutputDifference, ShadowRequest, ShadowSummary

ONE, TWO = "1" * 64, "2" * 64
REQUEST = ShadowRequest(id="s-1", manifest=TWO)
SUMMARY = ShadowSummary(
    against=ONE,
    seconds=60.0,
    compared=10,
    outputs=(
        OutputDifference(name="a", max_abs=0.5, mean_abs=0.1, rows=10, agreeing=9),
        OutputDifference(name="b", max_abs=2.0, mean_abs=0.1),
    ),
)


def release(version: str, variant: str, manifest: str) -> Release:
    return Release(
        model="digits",
        version=version,
        variant=variant,
        manifest=manifest,
        profiles=("raspberry-pi-4",),
        size_bytes=1,
        security_epoch=0,
        accuracy=None,
        accuracy_drop=None,
        rank=0,
        published_at=1.0,
    )


def test_a_shadow_leaves_everything_else_as_it_is():
    """What runs, what is measured and for which rollout stays; only the shadow is new."""
    before = Assignment(
        model="digits", active=ONE, rollout="r-1", max_bytes=5, measure=(MeasureRequest(id="m", manifest=ONE),)
    )

    after = assign(before, Wish(model="digits", best=None, shadow=REQUEST))

    assert after.shadow == REQUEST
    assert (after.active, after.rollout, after.max_bytes, after.measure) == (ONE, "r-1", 5, before.measure)


def test_a_publication_leaves_a_shadow_alone_and_calling_off_ends_it():
    """Only another shadow or calling it off changes it."""
    before = Assignment(model="digits", active=ONE, shadow=REQUEST)

    published = assign(before, Wish(model="digits", best=TWO))
    called_off = assign(before, Wish(model="digits", best=None, calls_off_shadow=True))

    assert published.shadow == REQUEST
    assert (called_off.shadow, called_off.active) == (None, ONE)


def test_a_variant_is_found_by_its_names():
    """Published twice, the newest counts; a name that nothing has is refused with those that there are."""
    releases = (release("1", "int8", ONE), release("1", "int8", TWO), release("2", "float32", ONE))

    assert find_release(releases, "digits", "1", "int8").manifest == TWO
    with pytest.raises(StateError, match="of digits there is: 1 int8, 2 float32"):
        find_release(releases, "digits", "1", "float32")


def test_only_reports_of_shadows_are_results():
    """Of one model, or of all."""
    shadowed = ShadowedVariant(request="s-1", model="digits", manifest=TWO, summary=SUMMARY)
    report = Report(id="1", device="pi", session=1, recorded_at=1.0, kind=ReportKind.SHADOW, shadow=shadowed)

    assert results([report], None) == results([report], "digits") == (report,)
    assert results([report], "other") == ()


def test_agreement_counts_outputs_with_classes_only():
    """An output that has no classes cannot agree or disagree."""
    assert agreement_text(SUMMARY) == "90.00 %"
    assert agreement_text(ShadowSummary(against=ONE, seconds=1.0)) == "-"


@pytest.mark.parametrize("share", ["0%", "101%", "0.05%", "many", "-1"])
def test_a_share_that_cannot_be_kept_exactly_is_refused(share):
    """A share is some thousandths, from one to all."""
    done = CliRunner().invoke(cli, ["shadow", "start", "digits", "1", "int8", "--share", share])

    assert done.exit_code == 2
    assert "share" in done.output


def test_before_any_report_there_is_nothing_to_show(tmp_path):
    """Without a database, too, showing says so, and leaves no file behind."""
    place = tmp_path / "none.db"

    told = CliRunner().invoke(cli, ["shadow", "show", "--database", str(place)])
    listed = CliRunner().invoke(cli, ["shadow", "show", "--json", "--database", str(place)])

    assert "no shadow has reported yet" in told.output
    assert json.loads(listed.output) == []
    assert not place.exists()
