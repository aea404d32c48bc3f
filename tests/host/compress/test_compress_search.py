"""The search of ``edgepick compress`` from end to end: processes, cache, budget, interruption, cluster, explanation."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgepick_host.app.compression import compression_pass
from edgepick_host.cli.compress import compress
from edgepick_host.cli.explain import explain
from edgepick_host.compress.executor import InlineExecutor, LocalExecutor
from edgepick_host.compress.work import Crashed, Made, MakeJob, Material
from edgepick_host.core.recipe_names import parse
from edgepick_host.core.search_record import SearchRecord
from edgepick_host.core.variants import RejectionCode, Step, VariantSet
from edgepick_host.errors import InputFileError
from edgepick_wire.codec import decode_document
from edgepick_wire.manifest import ModelFormat

PROFILES = ("coral-dev-board", "jetson-orin-nano")


def arguments(files, out: Path, cache: Path, *more: str, profiles=PROFILES) -> list[str]:
    data = ["--calibration", str(files.calibration), "--evaluation", str(files.evaluation), "--out", str(out)]
    chosen = [f"--profile={name}" for name in profiles]
    return [
        str(files.tflite),
        str(files.onnx),
        *chosen,
        *data,
        "--max-accuracy-drop",
        "10%",
        "--cache",
        str(cache),
        *more,
    ]


def invoke(files, out: Path, cache: Path, *more: str, **options):
    return CliRunner().invoke(compress, arguments(files, out, cache, *more, **options), catch_exceptions=False)


def read(out: Path) -> tuple[VariantSet, SearchRecord]:
    found = decode_document(VariantSet, (out / "variants.json").read_bytes())
    return found, decode_document(SearchRecord, (out / "search.json").read_bytes())


@pytest.fixture(scope="module")
def searched(files, tmp_path_factory):
    """Provide a finished search, its cache, and what it printed."""
    folder = tmp_path_factory.mktemp("search")
    result = invoke(files, folder / "out", folder / "cache", "--workers", "1")
    return folder, result


@pytest.fixture(scope="module")
def material(files, tflite_source) -> Material:
    from edgepick_host.compress.dataset import load_dataset
    from edgepick_host.compress.predictor import open_predictor, predict

    evaluation = load_dataset(files.evaluation)
    reference = predict(open_predictor(tflite_source.data, ModelFormat.TFLITE), evaluation, tflite_source.facts.inputs)
    return Material(
        sources={ModelFormat.TFLITE: tflite_source.data},
        facts={ModelFormat.TFLITE: tflite_source.facts},
        calibration=load_dataset(files.calibration),
        evaluation=evaluation,
        reference=reference,
        golden=tuple(range(16)),
    )


def job(name: str) -> MakeJob:
    recipe = parse(name, ModelFormat.TFLITE)
    assert recipe is not None
    return MakeJob(recipe=recipe)


def test_a_search_finds_more_than_the_profiles_name(searched):
    """Composed candidates are tried in several rounds; every attempt has a verdict for each of its profiles."""
    folder, result = searched
    found, record = read(folder / "out")

    assert result.exit_code == 0
    assert record.searched
    assert record.rounds >= 3
    assert any("." in attempt.name for attempt in record.attempts)
    assert all(verdict.kept or verdict.reason for attempt in record.attempts for verdict in attempt.verdicts)
    assert {profile for variant in found.variants for profile in variant.profiles} == set(PROFILES)
    assert (folder / "out/pareto.png").read_bytes().startswith(b"\x89PNG")


def test_siblings_that_answer_worse_are_dropped_with_the_winner_named(searched):
    """Of variants that cost the same, each profile is offered one, and the others say which one beat them."""
    folder, _ = searched
    found, _ = read(folder / "out")

    beaten = [r for r in found.rejections if r.code is RejectionCode.DOMINATED]
    assert beaten
    assert all("costs the same" in r.reason or "costs no more" in r.reason for r in beaten)
    assert any("costs the same" in r.reason for r in beaten)


def test_a_second_run_computes_nothing(searched, files, tmp_path):
    """Everything is known from before, and the result is the same, to the digest and the latency."""
    folder, _ = searched

    invoke(files, tmp_path / "again", folder / "cache", "--workers", "1")

    (first, _), (second, record) = read(folder / "out"), read(tmp_path / "again")
    assert record.computed == 0
    assert record.remembered > 10
    assert second == first


def test_the_number_of_workers_changes_nothing(searched, files, tmp_path):
    """Two processes find exactly what one finds, latency apart."""
    folder, _ = searched

    invoke(files, tmp_path / "two", tmp_path / "cache", "--workers", "2")

    (first, _), (second, record) = read(folder / "out"), read(tmp_path / "two")
    assert record.computed > 10
    assert [still(v) for v in second.variants] == [still(v) for v in first.variants]
    assert second.rejections == first.rejections


def still(variant):
    return replace(variant, host_latency_ns=0, pareto=())


def test_damaged_entries_are_computed_again(files, tmp_path):
    """A cache full of garbage gives the same result as an empty one."""
    cache = tmp_path / "cache"
    invoke(files, tmp_path / "a", cache, "--recipe", "static_wi8_ai8", "--workers", "1")
    for path in cache.glob("??/*"):
        path.write_bytes(b"garbage" + path.read_bytes()[7:])

    invoke(files, tmp_path / "b", cache, "--recipe", "static_wi8_ai8", "--workers", "1")

    assert read(tmp_path / "b")[1].remembered == 0
    assert {v.sha256 for v in read(tmp_path / "b")[0].variants} == {v.sha256 for v in read(tmp_path / "a")[0].variants}


def test_a_killed_search_goes_on_where_it_was(files, tmp_path):
    """After SIGKILL nothing half written is there, no worker stays, and the next run takes over what was done."""
    out, cache = tmp_path / "out", tmp_path / "cache"
    program = "from edgepick_host.cli.compress import compress; compress()"
    command = [sys.executable, "-c", program, *arguments(files, out, cache, "--workers", "2")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as victim:
        deadline = time.monotonic() + 120
        while len(list(cache.glob("??/[0-9a-f]*"))) < 6 and time.monotonic() < deadline:
            assert victim.poll() is None
            time.sleep(0.02)
        workers = children(victim.pid)
        victim.send_signal(signal.SIGKILL)
    kept = len(list(cache.glob("??/[0-9a-f]*")))

    assert not (out / "variants.json").exists()
    assert all(ended(pid) for pid in workers)

    again = subprocess.run(command, capture_output=True, timeout=200, check=False)

    _, record = read(out)
    assert again.returncode == 0
    assert kept >= 6
    assert record.remembered >= 6


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def ended(pid: int) -> bool:
    """Return whether a process is gone, or only waits to be reaped, within a minute."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


def test_a_spent_budget_lists_what_was_not_tried(files, tmp_path):
    """With hardly any time, the run ends in order, says what it left out, and a later run goes on."""
    out, cache = tmp_path / "out", tmp_path / "cache"

    result = invoke(files, out, cache, "--budget", "0.01s", "--workers", "1")

    found, record = read(out)
    assert result.exit_code == 1
    assert found.variants == ()
    assert not record.finished
    assert {missed.reason for missed in record.not_tried} == {"the budget was spent"}
    assert "run again to go on" in " ".join(result.stdout.split())


def test_a_worker_that_dies_takes_one_job_with_it(material):
    """A pass that kills its process is reported as such; the other jobs are done."""
    executor = LocalExecutor(material, deadly, 2)
    jobs = [job("float32"), job("float16"), job("prune20.float32")]

    found = dict(executor.run(jobs, None))
    executor.close()

    assert isinstance(found[1], Crashed)
    assert "signal 9" in found[1].reason
    assert isinstance(found[0], Made)
    assert isinstance(found[2], Made)


def deadly(name: str):
    if name == "tflite_float16":
        os.kill(os.getpid(), signal.SIGKILL)
    return compression_pass(name)


def test_a_deadline_stops_what_runs(material):
    """At the deadline a job that would go on for minutes is stopped, and has no result."""
    executor = LocalExecutor(material, slow, 1)

    found = dict(executor.run([job("float16"), job("float32")], time.monotonic() + 1))
    executor.close()

    assert found == {}


def slow(name: str):
    if name == "tflite_float16":
        time.sleep(600)
    return compression_pass(name)


def test_a_cluster_does_the_same_work(material):
    """A Dask cluster gives the very bytes that this process gives."""
    distributed = pytest.importorskip("distributed")
    from edgepick_host.compress.executor_dask import DaskExecutor

    jobs = [job("float32"), job("static_wi8_ai8"), MakeJob(recipe=unknown())]
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None, protocol="tcp://", host="127.0.0.1"
    ) as cluster:
        executor = DaskExecutor(cluster.scheduler_address.partition("://")[2], material, compression_pass)
        there = dict(executor.run(jobs, None))
        executor.close()

    assert there == dict(InlineExecutor(material, compression_pass).run(jobs, None))


def unknown():
    return replace(job("float32").recipe, steps=(Step(pass_name="no_such_pass"),))


def test_an_engine_that_breaks_is_one_rejection(material):
    """Whatever a pass raises, the candidate falls with the reason and nothing else does."""
    (found,) = dict(InlineExecutor(material, compression_pass).run([MakeJob(recipe=unknown())], None)).values()

    assert isinstance(found, Made)
    assert found.failure == "KeyError: 'no_such_pass'"


def test_strict_asks_for_the_whole_interval(files, tmp_path):
    """A variant that is within the tolerance on these samples, but not with confidence, falls with --strict."""
    chosen = arguments(files, tmp_path / "out", tmp_path / "c", "--recipe", "float32", "--strict", "--workers", "1")
    chosen[chosen.index("10%")] = "1%"

    CliRunner().invoke(compress, chosen, catch_exceptions=False)

    found, _ = read(tmp_path / "out")
    assert found.variants == ()
    assert all(
        "95 % confidence" in rejection.reason for rejection in found.rejections if rejection.recipe == "float32-onnx"
    )


def test_a_relative_drop_is_a_share_of_the_float_accuracy(files, tmp_path):
    """``10%rel`` of a float model of 100 % is ten points."""
    chosen = arguments(files, tmp_path / "out", tmp_path / "c", "--recipe", "float32", "--workers", "1")
    chosen[chosen.index("10%")] = "10%rel"

    CliRunner().invoke(compress, chosen, catch_exceptions=False)

    found, _ = read(tmp_path / "out")
    assert found.max_accuracy_drop == pytest.approx(0.1 * found.float_accuracy)


@pytest.mark.parametrize(
    ("option", "text"),
    [("--budget", "soon"), ("--budget", "-1s"), ("--executor", "slurm://x"), ("--executor", "dask://x"),
     ("--recipe", "static_wi8_ai8.magic"), ("--workers", "-1"), ("--max-accuracy-drop", "1pprel")],
)  # fmt: skip
def test_options_that_make_no_sense_are_asked_back(files, tmp_path, option, text):
    """Nonsense is a usage error that shows what was found, before any work."""
    result = CliRunner().invoke(compress, arguments(files, tmp_path / "out", tmp_path / "c", option, text))

    assert result.exit_code == 2
    assert text.removesuffix("rel") in result.stderr
    assert not (tmp_path / "out").exists()


def test_explain_tells_the_whole_story(searched):
    """The table holds every attempt with its outcome; what to try next follows."""
    folder, _ = searched
    _, record = read(folder / "out")

    shown = CliRunner().invoke(explain, [str(folder / "out")], catch_exceptions=False)

    assert shown.exit_code == 0
    assert all(attempt.name in shown.stdout for attempt in record.attempts)
    assert "what to try next" in shown.stdout


def test_explain_one_rejected_variant(searched):
    """A rejected variant has its gate and reason, and where its answers changed, as text and as JSON."""
    folder, _ = searched
    _, record = read(folder / "out")
    fallen = next(a for a in record.attempts if RejectionCode.ACCURACY in a.fell_at.values())

    shown = CliRunner().invoke(explain, [str(folder / "out"), fallen.name], catch_exceptions=False)
    printed = json.loads(CliRunner().invoke(explain, [str(folder / "out"), fallen.name, "--json"]).stdout)

    assert "accuracy: loses accuracy" in shown.stdout
    assert "changed answers" in shown.stdout
    assert printed["attempt"]["name"] == fallen.name
    assert printed["attempt"]["changed"]


def test_explain_refuses_what_was_not_tried(searched, tmp_path):
    """A name that nobody tried, and a folder without a result, say what there is instead."""
    folder, _ = searched

    wrong_name = CliRunner().invoke(explain, [str(folder / "out"), "nothing-onnx"])
    wrong_place = CliRunner().invoke(explain, [str(tmp_path)])

    assert isinstance(wrong_name.exception, InputFileError)
    assert "float32-onnx" in wrong_name.exception.hint
    assert isinstance(wrong_place.exception, InputFileError)
