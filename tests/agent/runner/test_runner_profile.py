"""Whole profiles of the demo model on real runtimes, in real runner processes; and the JSON that they are."""

import copy
import itertools
import json
import os
from dataclasses import replace

import pytest
from profile_schema import FILE, problems, schema

from edgepick_agent import app
from edgepick_agent.adapters import benchmark as adapter
from edgepick_agent.adapters import runner_process as launchers
from edgepick_agent.adapters.benchmark import benchmark
from edgepick_agent.cli.profile_report import report
from edgepick_agent.core.passes import Passes
from edgepick_agent.core.profile import Profile, SweepSetting
from edgepick_agent.core.profile_request import ProfileRequest
from edgepick_agent.core.summarise import summarise
from edgepick_agent.errors import RunError, StorageError
from edgepick_agent.runner.measure import measure
from edgepick_wire import codec
from edgepick_wire.metrics import Measurement, MeasurePlan, Verdict
from fakes import runtime_models as models
from fakes.runner_launcher import measurement

PLAN = MeasurePlan(warmup_runs=2, warmup_seconds=0, min_runs=60, min_seconds=0.02, max_seconds=20)
RESTARTS = 5


@pytest.fixture(scope="module")
def trace_file(tmp_path_factory):
    return tmp_path_factory.mktemp("trace") / "trace.json"


@pytest.fixture(scope="module")
def litert(trace_file):
    """Provide the profile of the demo model on LiteRT, with everything that there is."""
    return app.benchmark(
        ProfileRequest(
            model=str(models.DIGITS),
            plan=PLAN,
            passes=Passes(rate_per_s=400, operators=True, cpus=(min(os.sched_getaffinity(0)),)),
            restarts=RESTARTS,
            sweep=(SweepSetting(threads=2),),
            trace=str(trace_file),
            sysfs_root="/nowhere",
        )
    )


@pytest.fixture(scope="module")
def onnx():
    """Provide the profile of the demo model on ONNX Runtime, with its operators."""
    passes = Passes(operators=True)
    return app.benchmark(ProfileRequest(model=str(models.DIGITS_ONNX), plan=PLAN, passes=passes, sysfs_root="/nowhere"))


def test_figures_are_over_all_starts(litert):
    """Five starts of sixty runs or more are pooled, and each start keeps a summary of its own."""
    assert len(litert.restarts) == RESTARTS
    assert litert.latency.runs == sum(r.latency.runs for r in litert.restarts) >= RESTARTS * 60
    assert litert.latency.min_ns == min(r.latency.min_ns for r in litert.restarts)
    assert litert.latency.mean_ns == pytest.approx(sum(r.latency.mean_ns for r in litert.restarts) / RESTARTS, abs=1)
    assert 1 <= litert.effective_runs <= litert.latency.runs + 1e-6
    assert litert.memory.peak_rss_bytes == max(r.peak_rss_bytes for r in litert.restarts)


def test_intervals_are_over_starts(litert):
    """Mean, load and first inference have an interval around their value; p99 of so few effective runs says why not."""
    for name in ("mean_ns", "load_ns", "first_inference_ns", "throughput_per_s"):
        found = litert.intervals[name]
        assert found.low < found.value < found.high
    assert litert.intervals["mean_ns"].value == pytest.approx(litert.latency.mean_ns, abs=1)
    assert litert.intervals["p50_ns"].value == litert.latency.p50_ns
    p99 = litert.intervals["p99_ns"]
    assert (p99.low is not None and p99.high is not None) or p99.reason


def test_one_start_has_no_interval(onnx):
    """Without restarts the figures stand alone, and say how to get an interval."""
    assert (onnx.restarts, onnx.effective_runs) == ((), None)
    assert onnx.intervals["mean_ns"].low is None
    assert "--restarts" in onnx.intervals["mean_ns"].reason


def test_both_ways_of_use_are_reported(litert):
    """Beside the closed loop there is the fixed rate: its latency, the share of busy time, what began late."""
    rate = litert.fixed_rate

    assert rate.rate_per_s == 400
    assert rate.latency.runs == RESTARTS * 60
    assert 0 < rate.duty_cycle < 1
    assert 0 <= rate.late <= rate.latency.runs
    assert rate.intervals["mean_ns"].value == pytest.approx(rate.latency.mean_ns, abs=1)
    assert rate.gross_uj is None


def test_memory_is_told_apart(litert, onnx):
    """Model file, loaded model, peak, private and proportional memory fit together."""
    for found in (litert.memory, onnx.memory):
        assert 0 < found.session_bytes < found.private_bytes <= found.proportional_bytes <= found.peak_rss_bytes
        assert found.baseline_rss_bytes < found.peak_rss_bytes
    assert onnx.memory.session_bytes > onnx.memory.model_file_bytes


def test_the_runner_keeps_to_its_cpus(litert):
    """The profile says to which CPUs the runner was held."""
    assert litert.cpus == (min(os.sched_getaffinity(0)),)


@pytest.mark.parametrize(
    "options", [{"passes": Passes(cpus=(0, 1000))}, {"sweep": (SweepSetting(threads=1, cpus=(0, 1000)),)}]
)
def test_cpus_that_are_not_all_there_are_refused_before_anything_runs(options):
    """A CPU that the machine lacks is an error, also beside others and in a sweep, that names the ones there are."""
    told: list[str] = []
    request = ProfileRequest(model=str(models.DIGITS), plan=PLAN, **options)

    with pytest.raises(RunError, match="held to CPUs 0, 1000") as caught:
        benchmark(request, told.append)

    assert caught.value.hint.startswith("there are ")
    assert told == []


def test_a_runner_is_held_to_all_of_its_cpus_or_none(spec):
    """The kernel would leave out a CPU that is not there; the runner refuses, and stays where it was."""
    there = os.sched_getaffinity(0)

    with pytest.raises(RunError, match="1000"):
        measure(replace(spec, passes=Passes(cpus=(min(there), 1000))), lambda: None)

    assert os.sched_getaffinity(0) == there


def test_a_trace_that_cannot_be_written_is_told_before_anything_runs(tmp_path):
    """A folder that is not there loses no figures: nothing has been measured when it is told."""
    told: list[str] = []
    request = ProfileRequest(model=str(models.DIGITS), plan=PLAN, trace=str(tmp_path / "no/t.json"))

    with pytest.raises(StorageError, match=r"t\.json: no such file"):
        benchmark(request, told.append)

    assert told == []


def test_a_setting_that_fails_leaves_the_rest_of_a_sweep(monkeypatch):
    """Figures that were measured are kept: the setting says why it has none, in the JSON and on the screen."""

    class Failing(launchers.Launcher):
        def start(self, spec, mode):
            if spec.plan.threads == 3:
                raise OSError("no memory for three threads")
            return super().start(spec, mode)

    monkeypatch.setattr(adapter, "Launcher", Failing)
    request = ProfileRequest(
        model=str(models.DIGITS),
        plan=PLAN,
        sweep=tuple(SweepSetting(threads=n) for n in (2, 3, 2)),
        sysfs_root="/nowhere",
    )

    found = benchmark(request, lambda _text: None)

    assert [p.latency is not None for p in found.sweep] == [True, False, True]
    assert (found.sweep[1].threads, found.sweep[1].verdict) == (3, Verdict.INVALID)
    assert "no memory for three threads" in found.sweep[1].reasons[0]
    assert "failed: cannot start the runner: no memory for three threads" in report("m", found)
    rules = json.loads(FILE.read_text())
    assert list(problems(codec.plain(found), rules, rules)) == []
    assert codec.decode_document(Profile, codec.encode_document(found)) == found


def test_a_sweep_measures_each_setting(litert):
    """A further setting has figures with intervals of its own."""
    (point,) = litert.sweep

    assert (point.threads, point.cpus) == (2, litert.cpus if point.cpus else ())
    assert point.latency.runs >= RESTARTS * 60
    assert point.mean_ns.low < point.mean_ns.value < point.mean_ns.high


def test_every_operator_of_a_tflite_model_is_timed_alone(litert):
    """Each operator of the graph is there in its order, timed on the accelerator that takes it; the method is said."""
    table = litert.operators

    assert table.method == "each operator alone"
    assert len(table.operators) == litert.runtime.nodes
    assert [o.kind for o in table.operators][:3] == ["DEPTHWISE_CONV_2D", "CONV_2D", "CONV_2D"]
    assert {o.provider for o in table.operators} == {"xnnpack"}
    assert all(o.mean_ns > 0 for o in table.operators)
    assert "sum is not the whole" in table.reason


def test_onnx_runtimes_own_profiler_is_read(onnx):
    """The nodes of the optimized graph have a kind, a provider and a time; together they fit into an inference."""
    table = onnx.operators

    assert table.method == "runtime profiler"
    assert table.runs == 50
    assert {"Conv", "Gemm", "Softmax"} <= {o.kind for o in table.operators}
    assert {o.provider for o in table.operators} == {"CPUExecutionProvider"}
    assert sum(o.mean_ns for o in table.operators) > 0


def test_placement_says_who_took_how_many(litert, onnx):
    """Every operator of the graph is on some provider, by kind."""
    for found, provider in ((litert, "xnnpack"), (onnx, "CPUExecutionProvider")):
        (part,) = found.placement
        assert (part.provider, part.nodes) == (provider, found.runtime.nodes)
        assert sum(part.kinds.values()) == part.nodes


def test_operators_that_a_delegate_leaves_are_named():
    """An operator that no delegate took is on the CPU, by kind, and the profile says why as far as is known."""
    from edgepick_agent.adapters.tflite_session import Nodes, place

    taken, left = place(Nodes(kinds={"CONV_2D": 3, "GELU": 1}, left={"GELU": 1}), "xnnpack", None)

    assert (taken.provider, taken.nodes, taken.kinds) == ("xnnpack", 3, {"CONV_2D": 3})
    assert (left.provider, left.nodes, left.kinds) == ("cpu", 1, {"GELU": 1})
    assert "xnnpack did not take them" in left.reason


def test_the_trace_is_one_that_viewers_read(litert, trace_file):
    """Every start is a process; phases and inferences are complete events in microseconds that do not overlap."""
    document = json.loads(trace_file.read_text())
    events = document["traceEvents"]
    phases = [e for e in events if e.get("cat") == "phases"]
    inferences = sorted((e["ts"], e["ts"] + e["dur"]) for e in events if e.get("cat") == "inferences")
    within = next(e for e in phases if e["name"] == "traced inferences")

    assert {e["pid"] for e in phases} == set(range(1, RESTARTS + 1))
    assert {"load", "first inference", "warm-up", "timed runs", "fixed rate", "operators"} <= {
        e["name"] for e in phases
    }
    assert min(e["ts"] for e in phases) == 0
    assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(inferences))
    assert within["ts"] <= inferences[0][0] <= inferences[-1][1] <= within["ts"] + within["dur"]
    assert sum(e.get("tid") == 3 and e["ph"] == "X" for e in events) == len(litert.operators.operators)


def test_a_profile_reads_as_a_measurement(litert):
    """Whoever reads measurements reads profiles: the further fields are ignored."""
    text = codec.encode_document(litert)

    found = codec.decode_document(Measurement, text)

    assert found.latency == litert.latency
    assert codec.decode_document(type(litert), text) == litert


def test_the_schema_file_is_the_one_of_the_records():
    """docs/profile.schema.json is what the dataclasses say."""
    assert json.loads(FILE.read_text()) == schema()


def test_profiles_keep_the_schema(litert, onnx):
    """The JSON of real profiles is valid by the schema file, and the same JSON with a fault is not."""
    rules = json.loads(FILE.read_text())
    for found in (litert, onnx):
        document = codec.plain(found)
        assert list(problems(document, rules, rules)) == []

    def broken(change):
        document = copy.deepcopy(codec.plain(litert))
        change(document)
        return list(problems(document, rules, rules))

    assert broken(lambda d: d.pop("intervals")) == ["$.intervals: missing"]
    assert broken(lambda d: d.update(verdict="good"))
    assert broken(lambda d: d["latency"].update(runs="many"))
    assert broken(lambda d: d["sweep"][0].update(threads=None))
    assert broken(lambda d: d.update(surprise=1)) == ["$.surprise: not in the schema"]


def test_summaries_of_equal_starts_are_the_summary_of_one():
    """Pooling starts that saw the same changes no percentile."""
    from edgepick_agent.core.combine import pooled

    samples = list(range(1000, 1600))
    one, three = summarise(samples), pooled([samples] * 3)

    assert (three.p50_ns, three.p90_ns, three.p95_ns, three.p99_ns) == (one.p50_ns, one.p90_ns, one.p95_ns, one.p99_ns)
    assert (three.runs, three.mean_ns, three.min_ns) == (1800, one.mean_ns, 1000)


def test_reasons_are_counted_by_start():
    """Four CPUs that throttle in one of two starts are one start, however many reasons there are in it."""
    from edgepick_agent.core.combine import worst

    reasons = tuple(f"throttled: cpu{n} core_throttle_count counted up" for n in range(4))
    measured = measurement(PLAN)
    bad = replace(measured, verdict=Verdict.INVALID, reasons=reasons)

    assert worst([bad, measured]) == (Verdict.INVALID, (f"in 1 of 2 starts: {reasons[0]}",))
    assert worst([bad, bad])[1] == (f"in 2 of 2 starts: {reasons[0]}",)


@pytest.mark.parametrize(
    ("starts", "told"),
    [((False, False), False), ((False, None), None), ((True, None), True), ((None, None), None)],
)
def test_a_start_that_cannot_tell_is_not_taken_for_a_cool_one(starts, told):
    """All starts together are free of throttling only if each of them says so; one that throttled is enough."""
    from edgepick_agent.core.combine import around

    conditions = measurement(PLAN).conditions

    assert around([replace(conditions, throttled=one) for one in starts]).throttled is told
