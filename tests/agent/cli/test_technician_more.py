"""The technician's smaller commands: infer, compare, watch, support-bundle, completion."""

import contextlib
import dataclasses
import io
import json
import tarfile
import threading
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepick_agent.cli import infer, site
from edgepick_agent.cli.render import as_json_text
from edgepick_agent.core.control import AgentStatus
from edgepick_agent.core.runner_spec import RunnerSpec
from edgepick_agent.errors import InputError, NotAnsweringError
from edgepick_agent.ports import TensorSpec
from edgepick_agent.runner import serve
from edgepick_agent.runner.endpoint import Service
from edgepick_wire.manifest import ModelFormat, RuntimeChoice, RuntimeName
from edgepick_wire.messages import ModelState, Phase
from edgepick_wire.metrics import MeasurePlan, Verdict
from fakes.runner_launcher import measurement
from fakes.runtime import FakeSession

SECRET = "hunter2"


@pytest.fixture
def active(tmp_path, config_file, monkeypatch):
    """Serve a model called "m" whose output is its input where that is positive, as the agent would."""
    folder = tmp_path / "state" / "run"
    folder.mkdir(parents=True)
    spec = RunnerSpec(
        model="m",
        version="1",
        model_path="unused",
        format=ModelFormat.TFLITE,
        runtimes=(RuntimeChoice(name=RuntimeName.LITERT),),
    )
    service = Service(spec)
    service.load(FakeSession(tensor=TensorSpec(name="image", shape=(1, 2, 3, 1), dtype="float32")))
    service.open()
    server = serve.Server(serve.unix_listener(folder / "m.sock"), service)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    models = (ModelState(model="m", phase=Phase.CONFIRMED, active="ab" * 32, active_label="1"),)
    state = AgentStatus(
        running=True, device="pi-7", fleet="farm", profile="generic-linux", session=1, broker="connected", sequence=1,
        security_epoch=0, models=models,
    )  # fmt: skip
    monkeypatch.setattr(site, "status", lambda _settings: state)
    yield config_file
    server.shutdown()
    server.server_close()


def test_an_array_goes_through_the_active_model(active, command, tmp_path):
    """One sample of an archive, chosen by number, is answered; the model need not be named."""
    x = np.arange(12, dtype=np.uint8).reshape(2, 2, 3, 1)
    np.savez(tmp_path / "x.npz", x=x)

    found = command("infer", tmp_path / "x.npz", "--sample", 1, "--config", active, "--json")

    assert found.exit_code == 0, found.output
    assert json.loads(found.output)["outputs"]["b"] == x[1:2].astype(float).tolist()


def test_an_image_is_resized_to_the_models_input(active, command, tmp_path):
    """A picture of another size is brought to the model's, in grey, as pixels 0 to 255."""
    image = pytest.importorskip("PIL.Image")
    image.new("RGB", (30, 20), (255, 255, 255)).save(tmp_path / "white.png")

    found = command("infer", tmp_path / "white.png", "--config", active, "--json")

    assert json.loads(found.output)["outputs"]["b"] == np.full((1, 2, 3, 1), 255.0).tolist()


def test_the_largest_outputs_are_shown_to_a_person(active, command, tmp_path):
    """Without --json, the likeliest classes stand first."""
    np.save(tmp_path / "x.npy", np.array([0, 5, 1, 9, 2, 3], np.float32).reshape(2, 3, 1))

    found = command("infer", tmp_path / "x.npy", "--config", active)

    lines = found.output.splitlines()
    assert "the 5 largest of 6" in lines[1]
    assert lines[3].split() == ["3", "9"]


@pytest.mark.parametrize(
    "case",
    [
        ({"x": np.zeros((2, 2, 3, 1))}, ("--sample", "7"), "has 2 samples"),
        ({"x": np.zeros((2, 5))}, (), "takes float32"),
        ({"x": np.zeros((1, 2, 3, 1))}, ("--model", "other"), "no runner answers"),
    ],
)
def test_an_input_that_does_not_fit_is_explained(active, command, tmp_path, case):
    """A sample that is not there, another shape, another model: one sentence, no trace."""
    arrays, options, said = case
    np.savez(tmp_path / "x.npz", **arrays)

    found = command("infer", tmp_path / "x.npz", "--config", active, *options)

    assert found.exit_code != 0
    assert said in found.output
    assert "Traceback" not in found.output


def test_what_is_no_array_is_refused(active, command, tmp_path):
    """A text file is named as what it is not."""
    (tmp_path / "x.npz").write_text("no array")

    found = command("infer", tmp_path / "x.npz", "--config", active)

    assert "not an array" in found.output


@pytest.mark.parametrize("form", ["npy", "npz", "png", "jpeg", "gif", "bmp", "webp"])
@given(hits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=3), kept=st.floats(0, 1))
def test_a_damaged_file_is_never_called_a_defect(tmp_path_factory, form, hits, kept):
    """Wherever bytes of it are changed or missing: it is read as something, or refused as what it is not."""
    data = bytearray(whole(form)[: int(kept * len(whole(form))) or None])
    for place, value in hits:
        data[int(place * (len(data) - 1))] = value
    path = tmp_path_factory.getbasetemp() / f"damaged.{form}"
    path.write_bytes(data)

    with contextlib.suppress(InputError):
        infer._feeds(path, [{"name": "image", "shape": [1, 8, 8, 1]}], 0)


@cache
def whole(form):
    """Return a file in order of one form."""
    file, pixels = io.BytesIO(), np.arange(64, dtype=np.uint8).reshape(8, 8)
    if form in {"npy", "npz"}:
        {"npy": np.save, "npz": lambda f, x: np.savez_compressed(f, x=x)}[form](file, pixels[None, ..., None])
    else:
        pytest.importorskip("PIL.Image").fromarray(pixels).save(file, form)
    return file.getvalue()


def test_a_damaged_archive_is_refused(active, command, tmp_path):
    """Neither zipfile's error nor zlib's reaches a person: the file is named, and what would do."""
    np.savez(tmp_path / "x.npz", x=np.zeros((1, 2, 3, 1)))
    data = (tmp_path / "x.npz").read_bytes()
    (tmp_path / "x.npz").write_bytes(data.replace(b"NUMPY", b"NUMPI", 1))

    found = command("infer", tmp_path / "x.npz", "--config", active)

    assert found.exit_code == 1
    assert "x.npz: not an array" in found.output
    assert "defect" not in found.output


@pytest.mark.parametrize("name", ["größe", "\udcff", "a/b"])
def test_a_name_that_no_model_has_is_a_usage_error(active, command, tmp_path, name):
    """It is refused by the alphabet of names, before anything is asked."""
    np.save(tmp_path / "x.npy", np.zeros((1, 2, 3, 1)))

    found = command("infer", tmp_path / "x.npy", "--config", active, "--model", name)

    assert found.exit_code == 2
    assert "a-z 0-9" in found.output


def test_a_single_number_fits_a_model_of_one(tmp_path):
    """An array without dimensions is one sample of an input without any but the batch."""
    np.save(tmp_path / "x.npy", np.float32(7))

    assert infer._feeds(tmp_path / "x.npy", [{"name": "x", "shape": [1]}], 0)["x"].tolist() == [7]


def saved(path, found):
    path.write_text(as_json_text(found))
    return path


def test_two_measurements_stand_side_by_side(command, tmp_path):
    """Each figure of both, and how much the second differs, in per cent; what is missing says so."""
    one = measurement(MeasurePlan())
    two = dataclasses.replace(one, latency=dataclasses.replace(one.latency, mean_ns=10, p50_ns=10, runs=100))

    found = command("compare", saved(tmp_path / "a.json", one), saved(tmp_path / "b.json", two))

    rows = {line.split()[0]: line.split()[1:] for line in found.output.splitlines()[1:]}
    assert found.exit_code == 0, found.output
    assert rows["p50"] == ["5", "ns", "10", "ns", "+100.0%"]
    assert rows["p99"] == ["not", "estimable", "not", "estimable", "-"]


def test_what_makes_a_comparison_doubtful_is_said(command, tmp_path):
    """An invalid measurement, another machine, and a difference within the noise are named."""
    one = measurement(MeasurePlan())
    other = dataclasses.replace(
        one,
        verdict=Verdict.INVALID,
        reasons=("throttled",),
        conditions=dataclasses.replace(one.conditions, machine="another"),
    )

    found = command("compare", saved(tmp_path / "a.json", one), saved(tmp_path / "b.json", other), "--json")

    doubts = " | ".join(json.loads(found.output)["doubts"])
    for said in ("the second is invalid: throttled", "two machines: a fake and another", "equal to within their noise"):
        assert said in doubts


def test_a_file_that_is_no_measurement_is_refused(command, tmp_path):
    """Some other JSON is an error that says how to make a right one."""
    (tmp_path / "a.json").write_text("{}")

    found = command("compare", tmp_path / "a.json", tmp_path / "a.json")

    assert found.exit_code == 2
    assert "not a measurement" in found.output
    assert "benchmark MODEL --json" in found.output


def test_watching_shows_the_screen_again_without_moving_a_cursor(active, command):
    """Where the output is no terminal, screens follow one another, and --count ends it."""
    found = command("watch", "--config", active, "--count", 2, "--interval", 0.1)

    assert found.output.count("m: confirmed") == 2
    assert chr(27) not in found.output


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_watching_goes_on_after_a_silence(active, command, monkeypatch, options):
    """A look without an answer shows why, in its place; the next one shows the status, and its exit code counts."""
    status, silence = site.status(None), NotAnsweringError("the agent does not answer", hint="Wait for it. " * 9)
    answers = iter([status, silence, status])
    monkeypatch.setattr(site, "status", lambda _settings: found if (found := next(answers)) is status else fail(found))

    found = command("watch", "--config", active, "--count", 3, "--interval", 0.1, *options)

    assert found.exit_code == 0, found.output
    assert found.output.count("the agent does not answer") == 1
    assert found.output.rindex("confirmed") > found.output.index("does not answer") > found.output.index("confirmed")
    assert options or max(map(len, found.output.splitlines())) <= 80


def fail(error):
    raise error


def test_a_last_look_without_an_answer_is_the_exit_code(active, command, monkeypatch):
    """A script that looks once learns from the exit code that nobody answered."""
    monkeypatch.setattr(site, "status", lambda _settings: fail(NotAnsweringError("silence")))

    found = command("watch", "--config", active, "--count", 1, "--json")

    assert found.exit_code == 3
    assert json.loads(found.output)["error"]["message"] == "silence"


@pytest.mark.parametrize("seconds", ["nan", "inf", "1e300", "0"])
def test_an_interval_that_nobody_can_wait_is_a_usage_error(active, command, seconds):
    """What is no number of seconds, too many or too few is refused, with the reason."""
    found = command("watch", "--config", active, "--interval", seconds)

    assert found.exit_code == 2
    assert "not a finite number" in found.output or "not in the range" in found.output


def test_a_support_bundle_holds_what_helps_and_nothing_secret(command, config_file, tmp_path):
    """Status, checks, configuration and versions are in it; the password, its user and its file's name are not."""
    password = tmp_path / "secret-password-file"
    password.write_text(SECRET)
    with config_file.open("a") as file:
        file.write(f'username = "bob-the-user"\npassword_file = "{password}"\n')

    found = command("support-bundle", "--config", config_file, "--out", tmp_path / "s.tar.gz")

    assert found.exit_code == 0, found.output
    with tarfile.open(tmp_path / "s.tar.gz") as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
        content = b"".join(archive.extractfile(member).read() for member in archive.getmembers())
    assert {"status.json", "doctor.json", "config.json", "versions.json"} <= names
    assert SECRET.encode() not in content
    assert b"bob-the-user" not in content
    assert b"(redacted)" in content
    assert (tmp_path / "s.tar.gz").stat().st_mode & 0o077 == 0


def test_a_support_bundle_that_cannot_be_written_leaves_nothing(command, config_file, tmp_path):
    """Into a folder that is not there: a clear error, and no half of a file."""
    found = command("support-bundle", "--config", config_file, "--out", tmp_path / "nowhere" / "s.tar.gz")

    assert found.exit_code == 1
    assert "nowhere" in found.output
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_names_the_program(command, shell):
    """The script of each shell asks this program for its words."""
    found = command("completion", shell)

    assert found.exit_code == 0
    assert "edgepick-agent" in found.output
    assert "_EDGEPICK_AGENT_COMPLETE" in found.output
