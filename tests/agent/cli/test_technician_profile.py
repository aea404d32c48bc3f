"""The options of ``benchmark`` that make a profile of it, and how a profile reads."""

import dataclasses
import json
import sys
from pathlib import Path

import click
import pytest

from edgepick_agent.cli import benchmark as module
from edgepick_agent.cli.benchmark import sweep_settings
from edgepick_agent.cli.doctor import _power_sensor
from edgepick_agent.cli.profile_report import report
from edgepick_agent.config import load_settings
from edgepick_agent.core.findings import Level
from edgepick_agent.core.intervals import Estimate
from edgepick_agent.core.profile import Placement, Profile, SweepSetting
from edgepick_wire import codec

MODEL = Path(__file__).parents[3] / "host_tools/edgepick_host/demo/data/digits.tflite"
SHORT = ("--runs", 60, "--seconds", 0)


@pytest.fixture(autouse=True)
def no_config_of_this_machine(monkeypatch, tmp_path):
    """Keep a configuration that this machine may have out of the tests."""
    monkeypatch.setattr(module, "DEFAULT_CONFIG", str(tmp_path / "none.toml"))


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """Provide one profile with everything, as JSON, and its trace."""
    from click.testing import CliRunner

    trace = tmp_path_factory.mktemp("trace") / "t.json"
    arguments = [
        "benchmark", MODEL, *SHORT, "--restarts", 5, "--rate", "600/s", "--operators", "--cpus", "0", "--watts", 2.5,
        "--sweep", "threads=2", "--trace", trace, "--json", "--sysfs-root", trace.parent,
    ]  # fmt: skip
    from edgepick_agent.cli.commands import cli

    found = CliRunner().invoke(cli, [str(a) for a in arguments])
    assert found.exit_code == 0, found.output
    return codec.decode_document(Profile, found.stdout.encode()), json.loads(trace.read_text())


def test_one_command_finds_out_everything(asked):
    """Starts, rate, operators, affinity, sweep, estimate and trace are in one JSON and one file."""
    found, trace = asked

    assert (len(found.restarts), found.fixed_rate.rate_per_s, found.cpus) == (5, 600.0, (0,))
    assert [p.threads for p in found.sweep] == [2]
    assert len(found.operators.operators) == found.runtime.nodes
    assert found.energy.estimated
    assert found.profile_schema == 1
    assert any(event["name"] == "timed runs" for event in trace["traceEvents"])


def test_a_profile_reads_with_intervals_in_brackets(asked):
    """Text has the starts, intervals or why there are none, both ways of use, operators, and the sweep as a table."""
    text = report("digits.tflite", asked[0])

    assert "5; in brackets: 95 % confidence intervals over starts" in text
    assert text.count(" to ") >= 4
    assert "600/s, busy " in text
    assert "p50 is " in text
    assert "ESTIMATED, not measured" in text
    assert "slowest operators" in text
    assert "by each operator alone" in text
    assert "threads  CPUs" in text


def test_what_is_missing_of_an_interval_says_so(asked):
    """One end, both ends and their reason are told apart."""
    ends = {
        "mean_ns": Estimate(value=1e6, low=9e5, high=1.1e6),
        "p50_ns": Estimate(value=1e6, low=9e5, high=None),
        "p90_ns": Estimate(value=1e6, reason="the starts differ"),
    }

    text = report("m", dataclasses.replace(asked[0], intervals=ends))

    assert "[900 us to 1.1 ms]" in text
    assert "[900 us to not estimable]" in text
    assert "[not estimable: the starts differ]" in text


def test_operators_that_fell_back_are_named(asked):
    """With two providers each has its share, and the second why."""
    parts = (
        Placement(provider="edgetpu", nodes=7, kinds={"CONV_2D": 7}),
        Placement(provider="cpu", nodes=1, kinds={"SOFTMAX": 1}, reason="edgetpu did not take them"),
    )

    text = report("m", dataclasses.replace(asked[0], placement=parts))

    assert "7 on edgetpu (7 CONV_2D)" in text
    assert "1 on cpu (1 SOFTMAX): edgetpu did not take them" in text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--rate", "fast"), "give one like 10/s"),
        (("--rate", "0/s"), "give one like 10/s"),
        (("--rate", "10/fortnight"), "give one like 10/s"),
        (("--rate", "1e-320/s"), "give one like 10/s"),
        (("--rate", "inf"), "give one like 10/s"),
        (("--rate", "6/h"), "give --seconds 1200 too"),
        (("--rate", "7/h", "--seconds", 500), "give --seconds 1029 too"),
        (("--rate", "1e-9/s"), "give --seconds 2000000000 too"),
        (("--cpus", "0-"), "give one like 0,2-3"),
        (("--cpus", "a"), "give one like 0,2-3"),
        (("--cpus", "3-1"), "give one like 0,2-3"),
        (("--sweep", "threads=0"), "no number of threads"),
        (("--sweep", "colour=red"), "threads=1,2,4 or cpus=0,0+1"),
        (("--sweep", "threads="), "threads=1,2,4 or cpus=0,0+1"),
        (("--restarts", 0), "1<=x<=1000"),
    ],
)
def test_a_wrong_option_is_told_before_anything_runs(command, options, said):
    """Exit code 2, and what may be given instead."""
    result = command("benchmark", MODEL, *options)

    assert result.exit_code == 2
    assert said in result.output


@pytest.mark.parametrize(
    ("text", "rate"), [("10/s", 10.0), ("10", 10.0), ("30/min", 0.5), ("6/h", 6 / 3600), ("2.5/s", 2.5)]
)
def test_rates_are_read(text, rate):
    """Per second, minute or hour."""
    assert module._rate(text) == pytest.approx(rate)


@pytest.mark.parametrize(
    ("text", "seconds"), [("10/s", 1), ("30/min", 1), ("360/h", 1), ("6/h", 1200), ("7/h", 1029), ("1/min", 120)]
)
def test_the_rates_that_are_given_as_examples_fit(text, seconds):
    """Each documented rate, and each length that a refusal names, is enough for the fewest runs."""
    module._check_rate(module._rate(text), module.plan(threads=1, runs=60, seconds=seconds))


@pytest.mark.parametrize(("text", "cpus"), [("0", (0,)), ("3,1", (1, 3)), ("0-2,5", (0, 1, 2, 5)), ("0+1", (0, 1))])
def test_lists_of_cpus_are_read(text, cpus):
    """Numbers and ranges, in order, each once."""
    assert module._cpus(text) == cpus


def test_sweeps_combine():
    """Threads and CPUs are crossed; what is not swept stays as it is."""
    both = sweep_settings(("threads=1,2", "cpus=0,0+1"), threads=4, cpus=())

    assert both == tuple(SweepSetting(threads=t, cpus=c) for c in ((0,), (0, 1)) for t in (1, 2))
    assert sweep_settings(("threads=3",), threads=4, cpus=(1,)) == (SweepSetting(threads=3, cpus=(1,)),)
    assert sweep_settings((), threads=4, cpus=()) == ()
    with pytest.raises(click.BadParameter):
        sweep_settings(("threads=many",), threads=1, cpus=())


def test_a_trace_that_cannot_be_written_is_one_message(command, tmp_path):
    """The file is named; there is no stack trace."""
    result = command("benchmark", MODEL, *SHORT, "--trace", tmp_path / "no/such/folder/t.json")

    assert result.exit_code == 1
    assert "t.json: no such file or directory" in result.output
    assert "Traceback" not in result.output


def with_mean(found, low, value, high):
    mean = Estimate(value=value, low=low, high=high)
    latency = dataclasses.replace(found.latency, mean_ns=value)
    return dataclasses.replace(found, latency=latency, intervals={**found.intervals, "mean_ns": mean})


@pytest.mark.parametrize(("low", "overlap"), [(104_000, True), (121_000, False)])
def test_profiles_are_compared_by_their_intervals(command, tmp_path, asked, low, overlap):
    """Two profiles over starts are doubtful where the intervals of their means overlap, and estimates always are."""
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    files[0].write_bytes(codec.encode_document(with_mean(asked[0], 90_000, 100_000, 110_000)))
    files[1].write_bytes(codec.encode_document(with_mean(asked[0], low, low + 10_000, low + 20_000)))

    result = command("compare", *files)

    assert ("intervals of the mean latencies over starts overlap" in result.output) is overlap
    assert "--restarts" not in result.output
    assert "energy was estimated" in result.output


@pytest.mark.parametrize(
    ("code", "level", "said"),
    [("print(2.5)", Level.OK, "tells watts"), ("raise SystemExit('no such port')", Level.WARN, "no such port")],
)
def test_the_doctor_tries_the_meter(config_file, code, level, said):
    """An external meter that works is fine; one that does not is a warning with its own words and a cure."""
    command = json.dumps([sys.executable, "-c", code])
    config_file.write_text(f"{config_file.read_text()}\n[power]\ncommand = {command}\nperiod_seconds = 0.05\n")
    settings = load_settings(config_file, {}, files=False)

    (found,) = _power_sensor(settings)

    assert (found.check, found.level) == ("power sensor", level)
    assert said in found.detail
    assert bool(found.mend) is (level is Level.WARN)
