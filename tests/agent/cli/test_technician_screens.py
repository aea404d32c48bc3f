"""What a person reads: one screen of status, a measurement with its units, advice."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepick_agent.cli.journal import journal_line, log_to
from edgepick_agent.cli.log_lines import LogLevel, LogLine, as_json, as_text
from edgepick_agent.cli.profile_report import report
from edgepick_agent.cli.render import duration, energy, size, table
from edgepick_agent.cli.status import screen
from edgepick_agent.core.advice import NOTHING, advise
from edgepick_agent.core.control import AgentStatus, RunnerStatus, ShadowStatus
from edgepick_wire.messages import ModelState, Phase, Refusal, RefusalCode
from edgepick_wire.metrics import (
    Conditions,
    EnergySummary,
    GoldenResult,
    LatencySummary,
    Measurement,
    MeasurePlan,
    MemorySummary,
    RuntimeUsed,
    Verdict,
)
from edgepick_wire.shadow import ShadowSummary

DIGEST = "ab" * 32
REFUSAL = Refusal(code=RefusalCode.TRIAL_FAILED, detail="agreement 0.12, needed 0.95", hint="Publish a sound variant.")
LONG = dataclasses.replace(
    REFUSAL, hint="This is a longer hint, of which a person must be able to read every one of its words."
)

RUNNER = RunnerStatus(model="digits", state="ready", pid=4711, rss_bytes=40 * 1024**2, socket="/run/digits.sock")


def status(**changes):
    plain = AgentStatus(
        running=True, device="pi-7", fleet="farm", profile="raspberry-pi-4", session=3, broker="connected",
        sequence=41, security_epoch=2, disk_free_bytes=12 * 1024**3, rss_bytes=25 * 1024**2,
        models=(model(),), runners=(RUNNER,),
    )  # fmt: skip
    return dataclasses.replace(plain, **changes)


def model(**changes):
    plain = ModelState(
        model="digits", phase=Phase.CONFIRMED, active=DIGEST, active_label="1.2 static_wi8_ai8",
        previous="cd" * 32, previous_label="1.1 float32",
    )  # fmt: skip
    return dataclasses.replace(plain, **changes)


def test_a_healthy_device_says_so():
    """Identity, broker, model, runner and the advice to do nothing stand on one screen."""
    text = screen(status())

    for expected in ("pi-7   fleet farm   profile raspberry-pi-4", "connected", "digits: confirmed", "1.1 float32"):
        assert expected in text
    assert "ready, pid 4711, 40.0 MiB" in text
    assert "serves   /run/digits.sock" in text
    assert NOTHING in text


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"running": False}, "systemctl start edgepick-agent"),
        ({"broker": "connection refused"}, "edgepick-agent doctor"),
        ({"disk_free_bytes": 1024}, "make room"),
        ({"disk_free_bytes": 0}, "make room"),
        ({"models": ()}, "nothing is assigned"),
        ({"models": (model(phase=Phase.REVERTED, refusal=REFUSAL),)}, "Publish a sound variant."),
        ({"models": (model(pinned=True),)}, "its variant was chosen here"),
        ({"models": (model(phase=Phase.REFUSED, refusal=LONG),)}, "every one of its words"),
        ({"models": (model(phase=Phase.EMPTY, active=None),)}, "nothing is installed"),
        ({"absent": "digits: manifest abc: the broker does not have it"}, "edgepick publish --republish"),
    ],
)
def test_each_trouble_has_an_advice(changes, expected):
    """What is not well is followed by what to do about it."""
    assert expected in " ".join(advise(status(**changes)))
    assert expected in " ".join(screen(status(**changes)).split())


def test_a_download_shows_its_progress():
    """Chunks done and to come are shown while a bundle is fetched."""
    fetching = model(phase=Phase.FETCHING, chunks_done=10, chunks_total=40)

    assert "digits: fetching 10 of 40 chunks (25 %)" in screen(status(models=(fetching,)))


def test_a_shadow_is_shown_with_what_it_has_seen():
    """Which candidate runs beside what serves, and how many of its answers were compared, bad or dropped."""
    starting = ShadowStatus(model="digits", manifest=DIGEST, label="digits 2 int8", state="starting")
    summary = ShadowSummary(against=DIGEST, seconds=1.0, compared=120, not_finite=2, failed=1, dropped=5)

    told = screen(status(shadow=starting)), screen(status(shadow=dataclasses.replace(starting, summary=summary)))

    assert "shadow     digits 2 int8: starting, nothing compared yet" in told[0]
    assert "shadow     digits 2 int8: 120 compared, 3 bad, 5 dropped" in told[1]


words = st.text(max_size=200)
models = st.builds(
    ModelState,
    model=st.just("digits") | words,
    phase=st.sampled_from(Phase),
    active=st.sampled_from([None, DIGEST]),
    active_label=st.none() | words,
    pinned=st.booleans(),
    refusal=st.none() | st.builds(Refusal, code=st.sampled_from(RefusalCode), detail=words, hint=words),
)
runners = st.builds(
    RunnerStatus, model=st.just("digits"), state=words, pid=st.none() | st.integers(1), socket=words, detail=words
)

shadows = st.builds(ShadowStatus, model=words, manifest=st.just(DIGEST), label=words, state=words)


@given(
    st.builds(
        AgentStatus,
        running=st.booleans(),
        device=words,
        fleet=words,
        profile=words,
        session=st.integers(0),
        runners=st.lists(runners, max_size=4).map(tuple),
        broker=words,
        sequence=st.integers(0),
        security_epoch=st.integers(0),
        models=st.lists(models, max_size=12).map(tuple),
        shadow=st.none() | shadows,
        disk_free_bytes=st.integers(0),
        absent=st.none() | words,
        last_error=st.none() | words,
    )
)
def test_any_status_fits_on_a_screen(found):
    """Whatever the agent says, it takes at most 80 columns, and 24 lines with up to two models."""
    lines = screen(dataclasses.replace(found, models=found.models[:2])).split("\n")

    assert max(len(line) for line in lines) <= 80
    assert len(lines) <= 24
    assert max(len(line) for line in screen(found).split("\n")) <= 80
    assert all(c.isprintable() or c == "\n" for c in screen(found))


def measurement(**changes):
    plain = Measurement(
        plan=MeasurePlan(),
        runtime=RuntimeUsed(
            name="litert", version="2.1", accelerator="cpu", nodes=9, accelerated_nodes=0, threads=2,
            fallback_reason="edgetpu: no device",
        ),
        load_ns=12_300_000,
        first_inference_ns=2_000_000,
        latency=LatencySummary(
            runs=60, mean_ns=1_234_567, stdev_ns=10_000, min_ns=900, max_ns=3_000_000_000,
            p50_ns=1_200_000, p90_ns=1_300_000, p95_ns=1_400_000, p99_ns=None,
        ),
        throughput_per_s=812.5,
        memory=MemorySummary(
            peak_rss_bytes=41 * 1024**2, steady_rss_bytes=None, private_bytes=2048, proportional_bytes=None,
            baseline_rss_bytes=10, model_file_bytes=150_000,
        ),
        energy=EnergySummary(reason="no power sensor"),
        golden=None,
        conditions=Conditions(stand_in=True, machine="A CPU"),
        verdict=Verdict.DEGRADED,
        reasons=("noisy",),
    )  # fmt: skip
    return dataclasses.replace(plain, **changes)


def test_a_measurement_is_told_with_units_and_reasons():
    """Each figure has its unit; what could not be had says "not estimable" or "not measured" and why."""
    text = report("digits.tflite", measurement())

    for expected in (
        "digits.tflite, 146.5 KiB",
        "A CPU (stand-in)",
        "litert 2.1 on cpu, 0 of 9 nodes, 2 thread(s)",
        "edgetpu: no device",
        "degraded: noisy",
        "1.23 ms +- 10 us over 60 runs",
        "900 ns, 3 s",
        "p99              not estimable",
        "812.5 inferences/s",
        "peak memory      41.0 MiB",
        "steady memory    not measured",
        "not measured: no power sensor",
        "not checked: no --golden file",
        "throttling unknown",
    ):
        assert expected in text


def test_energy_and_answers_are_told_where_they_were_had():
    """A sensor's figure names the sensor and what it covers; a failed self-test shouts."""
    golden = GoldenResult(
        samples=16, agreement=0.5, mean_abs_error=1.0, accuracy=0.25, finite=True, passed=False, detail="too few agree"
    )
    spent = EnergySummary(gross_uj=2_500.0, net_uj=1_500.0, source="hwmon-ina3221:VDD_IN", scope="module")

    text = report("m", measurement(energy=spent, golden=golden, verdict=Verdict.INVALID))

    assert "2.5 mJ per inference, 1.5 mJ above idle (hwmon-ina3221:VDD_IN, covers the module)" in text
    assert "FAILED: 50.0% of 16 agree, accuracy 25.0%; too few agree" in text
    assert "do not use these figures" in text


def test_a_net_figure_that_is_withheld_says_why():
    """Gross energy alone is followed by the reason why there is none above idle."""
    why = "no net figure: 2.5 W is no more than the idle 2.5 W"
    spent = EnergySummary(gross_uj=2_500.0, reason=why, source="rpi5-pmic", scope="rails")

    assert f"2.5 mJ per inference, {why} (rpi5-pmic, covers the rails)" in report("m", measurement(energy=spent))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (size(512), "512 B"),
        (size(1536), "1.5 KiB"),
        (size(3 * 1024**4), "3072.0 GiB"),
        (size(None), "not measured"),
        (duration(999), "999 ns"),
        (duration(1_500_000_000_000), "1500 s"),
        (energy(2_000_000.0), "2 J"),
        (energy(12.0), "12 uJ"),
        (energy(None), "not measured"),
    ],
)
def test_quantities_have_the_unit_that_reads_best(text, expected):
    """Sizes, times and energies choose their unit."""
    assert text == expected


def test_a_table_aligns_its_columns():
    """Columns are as wide as their widest cell, and lines do not trail spaces."""
    assert table(("a", "bb"), [("ccc", "d"), ("", "")]) == "a    bb\nccc  d\n"


class Stream:
    def __init__(self, *, terminal):
        self.terminal, self.text = terminal, ""

    def isatty(self):
        return self.terminal

    def write(self, text):
        self.text += text

    def flush(self):
        pass


@pytest.mark.parametrize(
    ("environ", "terminal", "begins"),
    [
        ({}, True, "..:"),
        ({}, False, "..:"),
        ({"INVOCATION_ID": "x"}, False, '{"'),
        ({"JOURNAL_STREAM": "8:1", "INVOCATION_ID": "x"}, False, "<4>{"),
        ({"INVOCATION_ID": "x"}, True, "..:"),
    ],
)
def test_the_log_is_for_people_or_for_the_journal(environ, terminal, begins):
    """A terminal gets text, systemd gets JSON documents with the journal's priority in front."""
    stream = Stream(terminal=terminal)

    log_to(stream, environ)("something failed", serious=True, about={"model": "digits"})

    assert stream.text[:2].isdecimal() if begins == "..:" else stream.text.startswith(begins)
    assert stream.text.endswith("\n")
    assert "something failed" in stream.text


def test_a_line_of_the_log_names_what_it_is_about():
    """What a line concerns is in it, in each form."""
    line = LogLine(time=1.5, level=LogLevel.WARNING, text="x", about={"model": "digits"})

    assert as_text(line).endswith(" ! x  (model digits)")
    assert as_json(line) == '{"time": 1.5, "level": "warning", "text": "x", "about": {"model": "digits"}}'
    assert journal_line(line).startswith("<4>{")
