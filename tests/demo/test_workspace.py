"""The demo's folder is its own, and nobody else's is touched."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from edgepick_host.demo.fleet import fits
from edgepick_host.demo.workspace import clean_environment, data, open_workspace, write_settings
from edgepick_host.errors import ConfigError, StateError

MAX_SHIPPED_BYTES = 1_000_000


def test_a_second_run_starts_afresh(tmp_path: Path) -> None:
    """What the first run left is gone."""
    first = open_workspace(tmp_path / "demo")
    (first.folder / "host.db").write_text("old")
    first.keys.mkdir()

    second = open_workspace(tmp_path / "demo")

    assert not (second.folder / "host.db").exists()
    assert not second.keys.exists()
    first.close()
    second.close()


def test_a_folder_with_somebodys_files_is_refused(tmp_path: Path) -> None:
    """Nothing is removed that the demo did not make."""
    (tmp_path / "thesis.tex").write_text("years of work")

    with pytest.raises(ConfigError, match="did not make"):
        open_workspace(tmp_path)

    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_link_in_the_folder_is_removed_but_not_followed(tmp_path: Path) -> None:
    """Clearing the folder never reaches outside it."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").touch()
    first = open_workspace(tmp_path / "demo")
    (first.folder / "link").symlink_to(outside)

    open_workspace(tmp_path / "demo").close()

    assert (outside / "file").exists()
    first.close()


def test_a_long_path_moves_the_agents_state_elsewhere(tmp_path: Path) -> None:
    """However deep the folder is, the agents' sockets fit; what lies elsewhere is removed at the end."""
    deep = tmp_path / ("d" * 60) / ("e" * 60)

    workspace = open_workspace(deep)

    assert fits(workspace.states)
    assert workspace.states.is_dir()
    assert not workspace.states.is_relative_to(deep)
    workspace.close()
    assert not workspace.states.exists()
    assert workspace.folder.exists()


def test_a_folder_that_cannot_be_made_is_an_error_with_a_hint(tmp_path: Path) -> None:
    """A file in the way is named, without a stack trace."""
    (tmp_path / "file").touch()

    with pytest.raises(StateError, match="file/demo") as raised:
        open_workspace(tmp_path / "file" / "demo")

    assert "--out" in raised.value.hint


def test_the_users_own_settings_have_no_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables about the user's fleet reach neither the demo's settings nor its processes."""
    monkeypatch.setenv("EDGEPICK_FLEET", "production")
    monkeypatch.setenv("EDGEPICK_BROKER", "mqtt://production")
    workspace = open_workspace(tmp_path / "demo")

    settings = write_settings(workspace, "mqtt://127.0.0.1:41883")

    assert (settings.fleet, settings.broker.host, settings.broker.port) == ("demo", "127.0.0.1", 41883)
    assert Path(settings.database).is_relative_to(workspace.folder)
    assert not [name for name in clean_environment() if name.startswith("EDGEPICK_")]
    workspace.close()


def test_what_is_shipped_is_complete_and_small() -> None:
    """Two versions in two formats, calibration and evaluation: at most a megabyte in all."""
    names = ("digits.tflite", "digits.onnx", "digits_v2.tflite", "digits_v2.onnx", "calibration.npz", "evaluation.npz")

    shipped = [data(name) for name in names]

    assert sum(path.stat().st_size for path in shipped) <= MAX_SHIPPED_BYTES
    assert len({hashlib.sha256(path.read_bytes()).digest() for path in shipped}) == len(names)


def test_calibration_and_evaluation_share_no_image() -> None:
    """The evaluation is of images that neither training nor calibration has seen."""
    seen = []
    for name, count in (("calibration.npz", 128), ("evaluation.npz", 500)):
        with np.load(data(name)) as archive:
            assert archive["x"].shape == (count, 32, 32, 1)
            assert archive["x"].dtype == np.uint8
            assert set(archive["y"]) == set(range(10))
            seen.append({image.tobytes() for image in archive["x"]})

    assert not seen[0] & seen[1]


@pytest.mark.parametrize("version", ["digits", "digits_v2"])
def test_both_formats_answer_alike_and_well(version: str) -> None:
    """At least 97 % of the held-out images are right, and the two runtimes agree on each."""
    import onnxruntime
    from ai_edge_litert.interpreter import Interpreter

    with np.load(data("evaluation.npz")) as archive:
        images, labels = archive["x"].astype(np.float32), archive["y"]
    session = onnxruntime.InferenceSession(data(f"{version}.onnx"), providers=["CPUExecutionProvider"])
    interpreter = Interpreter(model_path=str(data(f"{version}.tflite")), num_threads=1)
    interpreter.allocate_tensors()
    source, sink = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    by_onnx, by_tflite = [], []
    for image in images:
        by_onnx.append(session.run(None, {"image": image[None]})[0][0])
        interpreter.set_tensor(source, image[None])
        interpreter.invoke()
        by_tflite.append(interpreter.get_tensor(sink)[0])

    assert np.mean(np.argmax(by_tflite, axis=1) == labels) >= 0.97
    np.testing.assert_allclose(by_onnx, by_tflite, atol=1e-4)
