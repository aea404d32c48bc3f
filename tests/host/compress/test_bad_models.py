"""What nobody should give to ``edgepick compress``, given to the real program: one message, code 2, nothing left."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
import tiny_models

from edgepick_host.cli.main import run
from edgepick_host.compress.result_folder import staged, written_variants
from edgepick_host.core.variants import VariantSet
from edgepick_wire.codec import decode_document
from edgepick_wire.ids import digest_of

GIB = 1 << 30


@dataclass(frozen=True)
class Ended:
    """How a run ended."""

    code: int
    said: str
    printed: str


def arguments(files, out: Path, *more, models=None, evaluation=None) -> list[str]:
    data = ["--calibration", files.calibration, "--evaluation", evaluation or files.evaluation, "--out", out]
    chosen = ["--profile", "generic-linux", "--recipe", "float32", "--recipe", "float16", "--workers", "1"]
    models = [files.tflite] if models is None else models
    return [*map(str, ["compress", *models, *chosen, *data, "--no-cache", *more])]


def process(files, out: Path, *, before: str, **given) -> Ended:
    """Run the program as a process of its own, after some Python of the test's."""
    code = f"import sys\n{before}\nfrom edgepick_host.__main__ import main\nsys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments(files, out, **given)],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    return Ended(code=done.returncode, said=done.stderr, printed=done.stdout)


@pytest.fixture
def edgepick(files, capsys) -> Callable[..., Ended]:
    """Provide the whole program from its command line to its exit code, in this process."""

    def here(out: Path, *more, **given) -> Ended:
        code = run(arguments(files, out, *more, **given))
        printed = capsys.readouterr()
        return Ended(code=code, said=printed.err, printed=printed.out)

    return here


def refusal(done: Ended, out: Path) -> str:
    """Return the one message of a refused run, after showing that it left nothing, and no stack trace."""
    assert done.code == 2, done.said
    assert "Traceback" not in done.said
    assert done.printed == ""
    assert not out.parent.exists() or not list(out.parent.iterdir())
    (message,) = (line for line in done.said.splitlines() if line.startswith("error: "))
    assert [line for line in done.said.splitlines() if line.startswith("hint: ")]
    return message


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "results" / "out"


@pytest.mark.parametrize(("name", "head"), [("big.tflite", b"\x1c\0\0\0TFL3"), ("big.onnx", b"\x08\x07")])
def test_more_than_two_gib_are_refused_unread(files, out, tmp_path, name, head):
    """A file that neither format can hold is refused by its size, with the limit and what to do."""
    model = tmp_path / name
    with model.open("wb") as file:
        file.write(head)
        file.truncate(2 * GIB)
    limit = "import resource; resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))"

    message = refusal(process(files, out, models=[model], before=limit), out)

    assert f"{model}: has 2,147,483,648 bytes" in message
    assert "at most 2,147,483,647 (2 GiB)" in message


def test_two_gib_beside_the_model_are_refused_unread(edgepick, files, out, tmp_path):
    """Weights in a file beside the ONNX model are named, however large they are."""
    parsed = onnx.load(files.onnx)
    model = tmp_path / "external.onnx"
    onnx.save_model(parsed, model, save_as_external_data=True, location="weights.bin", size_threshold=0)
    os.truncate(tmp_path / "weights.bin", 3 * GIB)

    assert "outside of the file" in refusal(edgepick(out, models=[model]), out)


TASKS = {
    "raises": ("raise RuntimeError('no camera here')", "the file raised RuntimeError: no camera here (line 1"),
    "is no Python": ("def model(:", "line 1"),
    "has no data": ("def model():\n    return None\n", "defines no train_data()"),
    "is empty": ("", "defines no model()"),
}


@pytest.mark.parametrize("case", TASKS)
def test_a_bad_task_file_is_named(edgepick, out, tmp_path, case):
    """A task file that raises or lacks something ends the run with its name, the line, and what it should have."""
    pytest.importorskip("torch")
    text, said = TASKS[case]
    task = tmp_path / "task.py"
    task.write_text(text)

    message = refusal(edgepick(out, "--task", task, models=[]), out)

    assert str(task) in message
    assert said in message


NET = """\
import numpy as np, torch
from torch import nn

def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 5))

def train_data():
    x = np.random.default_rng(0).normal(size=(40, {shape})).astype(np.float32)
    return x, np.arange(40) % 5
"""


def test_a_task_of_other_shapes_than_the_data_is_named(edgepick, files, out, tmp_path):
    """A network that takes other samples than the archives hold is refused with both shapes."""
    pytest.importorskip("torch")
    task = tmp_path / "task.py"
    task.write_text(NET.format(shape="64"))

    message = refusal(edgepick(out, "--task", task, models=[]), out)

    assert f"{files.calibration}: x has samples of shape [8, 8, 2]; the model's input" in message
    assert "is [64]" in message


def test_a_task_whose_data_its_model_does_not_take_is_named(edgepick, out, tmp_path):
    """Training data that the task's own network does not take are the task file's mistake."""
    pytest.importorskip("torch")
    task = tmp_path / "task.py"
    task.write_text(NET.format(shape="32"))

    message = refusal(edgepick(out, "--task", task, models=[]), out)

    assert f"{task}: model() does not take x of shape [4, 32]" in message


def test_a_task_of_another_network_than_the_file_is_named(edgepick, files, out, tmp_path):
    """With both a file and a task, the task's network must answer as the file does."""
    pytest.importorskip("torch")
    task = tmp_path / "task.py"
    task.write_text(NET.format(shape="8, 8, 2").replace("nn.Linear(64", "nn.Linear(128"))

    message = refusal(edgepick(out, "--task", task), out)

    assert f"{task}: model() is not the network of {files.tflite}" in message


def test_labels_outside_of_the_classes_are_named(edgepick, out, tmp_path):
    """A label that the model has no class for is named with its place and what is allowed."""
    labels = np.zeros(6, np.int64)
    labels[4] = 7
    archive = tiny_models.save(tmp_path / "data.npz", x=tiny_models.images(6), y=labels)

    message = refusal(edgepick(out, evaluation=archive), out)

    assert f"{archive}: y[4] is 7; the model has 5 classes, 0 to 4" in message


def test_our_own_variants_are_refused_as_already_quantized(edgepick, out, tmp_path):
    """What one run made is not taken as the float model of the next."""
    assert edgepick(tmp_path / "first").code == 0
    model = tmp_path / "first/float16-tflite/model.tflite"

    message = refusal(edgepick(out, models=[model]), out)

    assert f"{model}: " in message
    assert "already quantized" in message


DIE = """
import os, pathlib, signal
from edgepick_host.compress import pipeline, result_folder

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def after(function, calls):
    left = [calls]
    def wrapped(*arguments):
        left[0] -= 1
        return die() if left[0] < 0 else function(*arguments)
    return wrapped
"""

PLACES = {
    "while models are written": "pathlib.Path.write_bytes = after(pathlib.Path.write_bytes, 1)",
    "before the record is written": "pipeline._golden_arrays = die",
    "while it is made durable": "result_folder._sync = after(result_folder._sync, 2)",
    "when the earlier result has been moved": "pathlib.Path.rename = after(pathlib.Path.rename, 1)",
}


def is_whole(folder: Path) -> bool:
    """Return whether a result has every file that it names, and nothing else."""
    found = decode_document(VariantSet, (folder / "variants.json").read_bytes())
    models = {folder / v.folder / v.file: v.sha256 for v in found.variants}
    same = all(digest_of(path.read_bytes()) == digest for path, digest in models.items())
    return same and {path.name for path in folder.iterdir()} <= written_variants(folder)


@pytest.fixture(scope="module")
def result(files, tmp_path_factory) -> Path:
    """Provide what an earlier run wrote."""
    out = tmp_path_factory.mktemp("earlier") / "out"
    assert run(arguments(files, out)) == 0
    return out


@pytest.mark.parametrize("place", PLACES)
def test_a_run_killed_while_it_writes_leaves_whole_results_only(edgepick, files, result, tmp_path, place):
    """Whenever SIGKILL comes, each result that is there is whole; the next run ends well and clears up."""
    home = tmp_path / "results"
    out = home / "out"
    shutil.copytree(result, out)

    killed = process(files, out, before=DIE + PLACES[place])

    assert killed.code == -signal.SIGKILL
    (visible,) = (path for path in home.iterdir() if not path.name.startswith("."))
    assert is_whole(visible)
    assert [path for path in home.iterdir() if path.name.startswith(".")]
    assert edgepick(out).code == 0
    assert is_whole(out)
    assert not [path for path in home.iterdir() if path.name.startswith(".")]


def test_a_full_disk_is_said_to_be_that(files, result, tmp_path):
    """When the disk takes no more, the message names the folder and the reason, and the earlier result is whole."""
    out = tmp_path / "results" / "out"
    shutil.copytree(result, out)
    full = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))"

    done = process(files, out, before=full)

    assert done.code == 1
    assert f"error: {out}: cannot be written: File too large" in done.said
    assert "hint: Make room there" in done.said
    assert is_whole(out)
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_a_folder_that_another_run_still_fills_is_left_alone(edgepick, tmp_path):
    """Two runs to one place at once: neither takes the other's unfinished folder for abandoned."""
    out = tmp_path / "out"

    with staged(out, force=False) as mine:
        done = edgepick(out)
        assert mine.is_dir()

    assert done.code == 0
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
