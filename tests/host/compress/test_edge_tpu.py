"""The Edge TPU compiler is run where it is installed; its file becomes the variant, and its failures become reasons."""

import signal
import time
from pathlib import Path

import edge_tpu_stand_in as stand_in
import pytest
from click.testing import CliRunner

from edgepick_host.cli.compress import compress
from edgepick_host.cli.explain import explain
from edgepick_host.compress.edgetpu import compile_model, compiler_version
from edgepick_host.core.release import provenance, runtimes_for
from edgepick_host.core.search_record import SearchRecord
from edgepick_host.core.variants import RejectionCode, VariantSet
from edgepick_profiles.load import load_profile
from edgepick_wire.codec import decode_document
from edgepick_wire.ids import digest_of

MODEL = b"a quantized model"
CORAL, PI = "coral-dev-board", "raspberry-pi-3"
NAME = "static_wi8_ai8_dense_per_tensor-tflite"


@pytest.fixture
def tools(tmp_path, monkeypatch) -> Path:
    """Provide an empty folder that is first on ``PATH``."""
    folder = tmp_path / "tools"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def reason(tools: Path, body: str, *, log: str = stand_in.WHOLE, seconds: float = 60.0) -> str:
    """Return why nothing was compiled by a stand-in that does ``body``."""
    found = compile_model(MODEL, stand_in.install(tools, body, log=log), seconds=seconds)
    assert not found.model
    return found.facts.not_compiled


def test_a_compiled_model_comes_with_what_the_log_says(tools):
    """The file, the operators, the memory and the digest of what was compiled come back."""
    found = compile_model(MODEL, stand_in.install(tools))

    assert found.model == stand_in.compiled_model() + MODEL
    assert (found.facts.mapped, found.facts.total) == (5, 5)
    assert (found.facts.on_chip_bytes, found.facts.off_chip_bytes) == (619_008, 0)
    assert found.facts.compiled_from == digest_of(MODEL)
    assert found.facts.not_compiled == ""


def test_a_table_in_the_log_file_alone_is_read(tools):
    """A version that keeps its table to the log file is understood, too."""
    log = stand_in.REPORT.format(streamed="0.00B")
    body = f"cat > model_edgetpu.log <<'END'\n{stand_in.TABLE.format(mean='Operation not supported')}END\n"
    write = f"cat {tools}/compiled.tflite > model_edgetpu.tflite"

    found = compile_model(MODEL, stand_in.install(tools, body + write, log=log))

    assert (found.facts.mapped, found.facts.total) == (4, 5)


FAILURES = {
    "says why": ("exit 1", "Compilation failed: Compilation failed due to large activation tensors.\n", "large activa"),
    "gives up": ("exit 1", "\nInternal compiler error. Aborting!\n", "Internal compiler error. Aborting!"),
    "says nothing": ("exit 3", "", "ended with code 3 and gave no reason"),
    "crashes": ("kill -SEGV $$", "", "killed by SIGSEGV"),
    "crashes behind its wrapper": ("exit 139", "", "killed by SIGSEGV"),
    "writes nothing": (":", stand_in.WHOLE, "wrote no file"),
    "writes an empty file": ("> model_edgetpu.tflite", stand_in.WHOLE, "wrote no file"),
    "writes no model": ("echo no model > model_edgetpu.tflite", stand_in.WHOLE, "not a .tflite model"),
    "maps nothing": (
        "",
        "Operator  Count  Status\nCONV_2D  2  Operation version not supported\n",
        "mapped none of its 2 operators",
    ),
}


@pytest.mark.parametrize("case", FAILURES)
def test_each_failure_has_a_reason(tools, case):
    """However the compiler fails, there is no file, and a reason that a person understands."""
    body, log, said = FAILURES[case]

    assert said in reason(tools, body, log=log)


def test_a_file_without_the_custom_operator_is_no_compiled_one(tools):
    """A model in which nothing is for the Edge TPU is not taken for a compiled one."""
    plain = tools / "plain.tflite"
    plain.write_bytes(stand_in.compiled_model().replace(b"edgetpu-custom-op", b"another-custom-op"))

    assert "holds nothing for the Edge TPU" in reason(tools, f"cp {plain} model_edgetpu.tflite")


def is_alive(pid: int) -> bool:
    """Return whether a process runs; one that only waits to be collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_compiler_that_hangs_is_ended_with_all_it_started(tools):
    """After the time limit neither the compiler nor a process that it left behind is there any more."""
    pids = tools / "pids"
    pids.touch()  # a machine that did not come to start it in the time has nothing to end

    said = reason(tools, f"sleep 600 & echo $! > {pids}; echo $$ >> {pids}; wait", seconds=2.0)

    assert "stopped after 2 s" in said
    deadline = time.monotonic() + 60
    while any(is_alive(int(pid)) for pid in pids.read_text().split()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not [pid for pid in pids.read_text().split() if is_alive(int(pid))]


def test_an_interrupt_leaves_no_process_and_no_file(tools, tmp_path, monkeypatch):
    """Ctrl-C while the compiler works ends it, and its folder goes."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    script = stand_in.install(tools, f"echo $$ > {tools}/pid; kill -INT $PPID; sleep 600")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    try:
        with pytest.raises(KeyboardInterrupt):
            compile_model(MODEL, script)
    finally:
        signal.signal(signal.SIGINT, before)

    assert not is_alive(int((tools / "pid").read_text()))
    assert not list(tmp_path.glob("edgepick-*"))


def test_a_program_that_cannot_be_started_is_a_reason(tools):
    """A file that is no program of this machine ends no search."""
    script = tools / "edgetpu_compiler"
    script.write_bytes(b"\x7fELF no program")
    script.chmod(0o755)

    assert "cannot be started" in compile_model(MODEL, script).facts.not_compiled
    assert compiler_version(script) == ""


def run(files, out: Path, *more: str, cache: Path | None = None):
    kept = ("--cache", str(cache)) if cache else ("--no-cache",)
    return CliRunner().invoke(
        compress,
        [
            *(str(files.tflite), "--profile", CORAL, "--profile", PI, "--recipe", "static_wi8_ai8", "--workers", "1"),
            *("--calibration", str(files.calibration), "--evaluation", str(files.evaluation), "--out", str(out)),
            *("--max-accuracy-drop", "20%", *kept, *more),
        ],
        catch_exceptions=False,
    )


def read(out: Path) -> VariantSet:
    return decode_document(VariantSet, (out / "variants.json").read_bytes())


def test_the_compiled_file_is_the_variant_of_the_profile(files, tools, tmp_path):
    """Coral gets the compiled file with all facts, the Pi the plain one; nobody gets both."""
    stand_in.install(tools, log=stand_in.PARTIAL)

    result = run(files, tmp_path / "out")

    assert result.exit_code == 0, result.output
    found = read(tmp_path / "out")
    (compiled,) = (v for v in found.variants if CORAL in v.profiles)
    assert (compiled.name, compiled.profiles) == (f"{NAME}-edgetpu", (CORAL,))
    content = (tmp_path / "out" / compiled.folder / compiled.file).read_bytes()
    assert b"edgetpu-custom-op" in content
    assert (digest_of(content), len(content)) == (compiled.sha256, compiled.size_bytes)
    assert compiled.edge_tpu is not None
    assert (compiled.edge_tpu.mapped, compiled.edge_tpu.total, compiled.edge_tpu.off_chip_bytes) == (4, 5, 1536)
    assert compiled.pareto == (CORAL,)
    assert all(variant.edge_tpu is None for variant in found.variants if PI in variant.profiles)
    assert "4 of 5 operators" in result.output
    assert "MEAN (1) on the CPU: Operation version not supported" in result.output


def test_a_manifest_says_what_was_compiled_and_asks_for_the_edge_tpu_alone(files, tools, tmp_path):
    """Provenance names compiler, memory and the file that accuracy was measured on; no CPU is a way to run it."""
    stand_in.install(tools)
    run(files, tmp_path / "out")
    found = read(tmp_path / "out")
    (compiled,) = (v for v in found.variants if CORAL in v.profiles)

    said = provenance(compiled, found)

    assert said["edgetpu_compiler"] == stand_in.VERSION
    assert "5 of 5 operators on the Edge TPU" in said["edgetpu"]
    assert "uncompiled file" in said["evaluation"]
    assert len(said["edgetpu_compiled_from"]) == 64
    choices = runtimes_for(compiled, [load_profile(CORAL)])
    assert {choice.accelerators for choice in choices} == {("edgetpu",)}


def test_explain_tells_both_attempts(files, tools, tmp_path):
    """The compiled variant is explained with the compiler's table, the uncompiled one points to it."""
    stand_in.install(tools, log=stand_in.PARTIAL)
    run(files, tmp_path / "out")

    compiled = CliRunner().invoke(explain, [str(tmp_path / "out"), f"{NAME}-edgetpu"], catch_exceptions=False).output
    plain = CliRunner().invoke(explain, [str(tmp_path / "out"), NAME], catch_exceptions=False).output

    assert "Operation version not supported" in compiled
    assert "619,008 bytes of parameters on the chip, 7,340,032 left" in compiled
    assert "no CPU runs a compiled one" in compiled
    assert f"offered as {NAME}-edgetpu" in plain
    assert "The Edge TPU leaves MEAN to the CPU" in compiled
    assert "Parameters travel to the Edge TPU" in compiled


@pytest.mark.parametrize("there", [False, True])
def test_what_is_not_compiled_says_so_everywhere(files, tools, tmp_path, there):
    """Without the compiler, or when it fails, Coral keeps the plain file, marked so in file, table and explanation."""
    why = "is not on PATH"
    if there:
        stand_in.install(tools, "exit 1", log="Compilation failed: Too large.\n")
        why = "failed: Too large."

    result = run(files, tmp_path / "out")

    assert result.exit_code == 0, result.output
    (variant,) = (v for v in read(tmp_path / "out").variants if CORAL in v.profiles)
    assert variant.name == NAME
    assert variant.edge_tpu is not None
    assert why in variant.edge_tpu.not_compiled
    assert variant.provenance["edgetpu"].startswith("not compiled")
    assert "not compiled for the Edge TPU" in result.output
    assert why in result.output
    explained = CliRunner().invoke(explain, [str(tmp_path / "out"), NAME], catch_exceptions=False).output
    assert why in explained


def test_a_compiled_file_beyond_the_budget_is_refused(files, tools, tmp_path):
    """The compiler may make a file larger; the profile's budget is held against what the device would get."""
    stand_in.install(
        tools, "(cat " + str(tools) + "/compiled.tflite; head -c 9000000 /dev/zero) > model_edgetpu.tflite"
    )

    result = run(files, tmp_path / "out")

    assert result.exit_code == 1
    found = read(tmp_path / "out")
    assert not [v for v in found.variants if CORAL in v.profiles]
    (fallen,) = (r for r in found.rejections if r.profile == CORAL and r.code is RejectionCode.BUDGET)
    assert "compiled for the Edge TPU" in fallen.reason
    record = decode_document(SearchRecord, (tmp_path / "out" / "search.json").read_bytes())
    assert {a.name: a.fell_at for a in record.attempts}[NAME] == {CORAL: RejectionCode.BUDGET}


def test_nothing_is_compiled_twice(files, tools, tmp_path):
    """A second run takes the compiled file from the cache, and writes the same variants."""
    calls, cache = tmp_path / "calls", tmp_path / "cache"
    stand_in.install(tools, calls=calls)

    run(files, tmp_path / "one", cache=cache)
    run(files, tmp_path / "two", cache=cache)

    assert len(calls.read_text().splitlines()) == 1
    one, two = (read(tmp_path / name) for name in ("one", "two"))
    assert [v.sha256 for v in one.variants] == [v.sha256 for v in two.variants]


def test_a_crash_is_tried_again(files, tools, tmp_path):
    """What ended a run by chance is not remembered as the model's fault."""
    calls, cache = tmp_path / "calls", tmp_path / "cache"
    stand_in.install(tools, "kill -SEGV $$", calls=calls)
    run(files, tmp_path / "one", cache=cache)
    stand_in.install(tools, calls=calls)

    run(files, tmp_path / "two", cache=cache)

    assert len(calls.read_text().splitlines()) == 2
    assert f"{NAME}-edgetpu" in {v.name for v in read(tmp_path / "two").variants}
