"""Files and options that are not as they should be: one clear message, exit code 2, and nothing written."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from integration.whole_system import DATA, PROFILE, Ran, run

MODEL = DATA / "digits.tflite"
CALIBRATION = DATA / "calibration.npz"
SAMPLES = np.zeros((4, 32, 32, 1), np.float32)


def compress(folder: Path, *more: object, model: Path = MODEL, calibration: Path = CALIBRATION) -> Ran:
    """Run ``edgepick compress`` into a folder that holds an earlier result."""
    out = folder / "out"
    return run(
        "edgepick_host",
        *("compress", model, "--calibration", calibration, "--evaluation", DATA / "evaluation.npz"),
        *("--recipe", "static_wi8_ai8", "--out", out, *(more or ("--profile", PROFILE))),
        folder=folder,
    )


@pytest.fixture
def folder(tmp_path, variants):
    """Provide a folder with an earlier result, which is as it was when the test has ended."""
    shutil.copytree(variants, tmp_path / "out")
    before = contents(tmp_path / "out")
    yield tmp_path
    assert contents(tmp_path / "out") == before


def contents(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def model_file(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


MODELS = {
    "text": ("m.tflite", lambda good: b"Dear Sir or Madam, this is a letter.", "m.tflite"),
    "truncated": ("m.tflite", lambda good: good[: len(good) // 2], "m.tflite"),
    "no-tail": ("m.tflite", lambda good: good[:-100], "m.tflite"),
    "text-onnx": ("m.onnx", lambda good: b"Dear Sir or Madam, this is a letter.", "m.onnx"),
    "truncated-onnx": ("m.onnx", lambda good: (DATA / "digits.onnx").read_bytes()[:70000], "m.onnx"),
    "unknown-suffix": ("m.h5", lambda good: good, ".tflite and .onnx"),
}


@pytest.mark.parametrize(("name", "spoil", "named"), MODELS.values(), ids=MODELS)
def test_what_is_no_model_is_refused(folder, name, spoil, named):
    """Not a model, or only a part of one: the file is named, with what is wrong with it."""
    model = model_file(folder, name, spoil(MODEL.read_bytes()))

    done = compress(folder, model=model)

    assert done.code == 2
    assert done.err.splitlines()[-1 if "hint" not in done.err else -2].startswith("error: ")
    assert str(model) in done.err
    assert named in done.err


ARCHIVES = {
    "shape": ({"x": np.zeros((4, 28, 28, 1), np.float32)}, "[28, 28, 1]"),
    "channels-first": ({"x": np.zeros((4, 1, 32, 32), np.float32)}, "channels first against channels last"),
    "dtype": ({"x": np.full((4, 32, 32, 1), "seven")}, "expected a real numeric type"),
    "objects": ({"x": np.array([{}, {}])}, "nothing is unpickled"),
    "nan": ({"x": np.where(np.arange(1024).reshape(32, 32, 1) == 33, np.nan, SAMPLES)}, "x[0, 1, 1, 0] is nan"),
    "empty": ({"x": SAMPLES[:0]}, "at least one sample"),
    "labels": ({"x": SAMPLES, "y": np.array([1, 2])}, "[4] is expected"),
}


@pytest.mark.parametrize(("arrays", "named"), ARCHIVES.values(), ids=ARCHIVES)
def test_wrong_calibration_is_refused(folder, arrays, named):
    """Wrong shape, type, values or number of samples: the archive, the entry and both sides are named."""
    archive = folder / "calibration.npz"
    np.savez(archive, **arrays)

    done = compress(folder, calibration=archive)

    assert done.code == 2
    assert f"error: {archive}: " in done.err
    assert named in done.err


@pytest.mark.parametrize("content", [None, b"not an archive"], ids=["missing", "text"])
def test_what_is_no_archive_is_refused(folder, content):
    """A calibration file that is missing or no archive is named."""
    archive = folder / "calibration.npz"
    if content is not None:
        archive.write_bytes(content)

    done = compress(folder, calibration=archive)

    assert done.code == 2
    assert f"error: {archive}: " in done.err


def test_an_unknown_profile_is_refused(folder):
    """A profile that nobody knows: the nearest one is suggested, and all are listed."""
    done = compress(folder, "--profile", "rasberry-pi-4")

    assert done.code == 2
    assert 'unknown profile "rasberry-pi-4" (did you mean "raspberry-pi-4"?)' in done.err
    assert "jetson-orin-nano" in done.err


def test_every_mistake_of_a_profile_is_named_at_once(folder):
    """Five mistakes in one file are five lines, each with the key and what is allowed there."""
    own = folder / "own"
    own.mkdir()
    (own / "my-board.toml").write_text(
        'inherits = "generic-linux"\ntitle = 7\ncolour = "blue"\nrecipes = ["flaot32"]\n'
        '[hardware]\ncores = -1\n[budgets]\npeak_rss_bytes = "much"\n'
    )

    done = compress(folder, "--profile", "my-board", "--profiles", own)
    checked = run("edgepick_host", "profiles", "check", own / "my-board.toml", folder=folder)

    assert (done.code, checked.code) == (2, 2)
    for key in ("title", "colour", "recipes", "hardware.cores", "budgets.peak_rss_bytes"):
        assert key in done.err
        assert key in checked.err + checked.out
    assert "float32" in done.err


def test_errors_are_readable_by_programs(folder):
    """With --json an error is one JSON object on standard error, with code, message, hint and exit code."""
    model = model_file(folder, "m.tflite", b"nothing")

    done = compress(folder, "--profile", PROFILE, "--json", model=model)

    error = json.loads(done.err.splitlines()[-1])["error"]
    assert done.out == ""
    assert (error["exit_code"], error["code"]) == (2, "input-file") == (done.code, error["code"])
    assert str(model) in error["message"]


def test_every_mistake_of_an_agents_configuration_is_named_at_once(tmp_path):
    """Unknown and wrong keys are all named, with a guess at what was meant; the agent does not start."""
    config = tmp_path / "agent.toml"
    config.write_text(
        'device = "Pi 7"\nflet = "plant"\nprofile = "generic-linux"\nroot_document = "root.signed"\n'
        '[broker]\nhost = "127.0.0.1"\nport = 99999\nkeepalive = 30\n[runner]\nmax_failures = "three"\n'
        "[cloud]\nurl = 1\n"
    )

    done = run("edgepick_agent", "run", "--config", config, folder=tmp_path)
    checked = run("edgepick_agent", "config", "check", "--config", config, folder=tmp_path)

    assert (done.code, checked.code) == (2, 2)
    for key in ("device", "flet", "fleet", "broker.port", "broker.keepalive", "runner.max_failures", "cloud"):
        assert key in done.err
        assert key in checked.err + checked.out
    assert "did you mean" in done.err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["agent.toml"]


def test_every_mistake_of_the_hosts_settings_is_named_at_once(tmp_path):
    """Unknown and wrong keys of edgepick.toml are all named, and nothing is done."""
    (tmp_path / "edgepick.toml").write_text('flet = "plant"\nsecurity_epoch = "one"\n[broker]\nurl = "http://broker"\n')

    done = run("edgepick_host", "devices", "list", folder=tmp_path)

    assert done.code == 2
    for key in ("flet", "security_epoch", "broker.url"):
        assert key in done.err
    assert [p.name for p in tmp_path.iterdir()] == ["edgepick.toml"]


def test_a_golden_file_that_is_none_is_refused(tmp_path):
    """`benchmark` names the file and what it expects, and advises nothing unsafe."""
    golden = tmp_path / "golden.npz"
    golden.write_text("not an archive")

    done = run("edgepick_agent", "benchmark", MODEL, "--golden", golden, folder=tmp_path)

    assert done.code == 1
    assert "golden.npz is not a readable .npz archive" in done.err
    assert "'expected' and 'x'" in done.err
    assert "pickle" not in done.err


def test_a_rollout_that_nobody_started_is_said_to_be_none(tmp_path):
    """Asked for a rollout where there never was one, the command says how one is started."""
    found = [run("edgepick_host", "rollout", "status", *name, folder=tmp_path) for name in ((), ("r-1",))]

    assert [done.code for done in found] == [1, 1]
    assert all("no rollout was ever started" in done.err for done in found)
