"""Which devices are alike enough to be compared."""

from hypothesis import given
from hypothesis import strategies as st

from edgepick_host.core.strata import latest_results, stratify
from fleet.synthetic import measured, measurement, release

A = release("a")
B = release("b")


def strata(reports, devices=("d1", "d2", "d3")):
    return stratify("pi", devices, (A.manifest, B.manifest), latest_results(reports))


def test_devices_that_ran_on_another_accelerator_are_another_stratum():
    """A board that fell back to the CPU is not compared with boards that used the accelerator."""
    found = strata(
        [
            measured("d1", A, measurement(accelerator="edgetpu")),
            measured("d2", A, measurement(accelerator="edgetpu")),
            measured("d3", A, measurement(accelerator="cpu")),
        ]
    )

    assert [(s.runs_on, s.devices) for s in found] == [
        (("litert/edgetpu",), ("d1", "d2")),
        (("litert/cpu",), ("d3",)),
    ]


def test_a_stand_in_is_never_compared_with_a_board():
    """Figures of a machine that stands in for a board are kept apart from the board's own."""
    found = strata([measured("d1", A, measurement(stand_in=True)), measured("d2", A, measurement(stand_in=False))])

    assert len(found) == 2
    assert {s.stand_in for s in found} == {True, False}


def test_different_runtimes_for_different_formats_are_one_stratum():
    """Two variants of two formats on one kind of device are compared, because every device ran both alike."""
    reports = [
        measured(d, r, measurement(runtime=runtime))
        for d in ("d1", "d2")
        for r, runtime in ((A, "litert"), (B, "onnxruntime"))
    ]

    (only,) = strata(reports, devices=("d1", "d2"))

    assert only.devices == ("d1", "d2")
    assert only.runs_on == ("litert/xnnpack", "onnxruntime/xnnpack")


def test_a_silent_device_shows_in_the_largest_stratum():
    """A device without a measurement is a member of the largest stratum, where its silence is seen."""
    found = strata([measured("d1", A, measurement()), measured("d2", A, measurement())])

    assert found[0].devices == ("d1", "d2", "d3")


def test_no_devices_are_no_stratum():
    """A profile without devices has no stratum."""
    assert strata([], devices=()) == ()


@given(st.permutations(["d1", "d2", "d3", "d4"]), st.randoms(use_true_random=False))
def test_strata_do_not_depend_on_order(devices, order):
    """Every device is in exactly one stratum, the same whatever order devices and reports come in."""
    reports = [
        measured("d1", A, measurement(accelerator="cpu")),
        measured("d2", A, measurement()),
        measured("d2", B, measurement()),
        measured("d3", B, measurement()),
    ]
    expected = strata(reports, devices=sorted(devices))
    order.shuffle(reports)

    found = strata(reports, devices=devices)

    assert found == expected
    assert sorted(d for s in found for d in s.devices) == sorted(devices)
