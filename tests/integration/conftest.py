from pathlib import Path

import pytest

from integration.whole_system import DATA, MODEL, PROFILE, Device, Host, planted, retire, run, until


def compressed(folder: Path, model: str, name: str, *recipes: str) -> Path:
    """Return the folder that ``edgepick compress`` wrote."""
    done = run(
        "edgepick_host",
        *("compress", DATA / model, "--name", MODEL, "--profile", PROFILE, "--out", folder / name),
        *("--calibration", DATA / "calibration.npz", "--evaluation", DATA / "evaluation.npz"),
        *(word for recipe in recipes for word in ("--recipe", recipe)),
        folder=folder,
    )
    assert done.code == 0, done.err
    return folder / name


@pytest.fixture(scope="session")
def variants(tmp_path_factory):
    """Provide the demo's model as ``float32-tflite`` of three chunks and ``static_wi8_ai8-tflite`` of one."""
    return compressed(tmp_path_factory.mktemp("variants"), "digits.tflite", "v1", "float32", "static_wi8_ai8")


@pytest.fixture(scope="session")
def newer_variants(tmp_path_factory):
    """Provide the second training of the demo's model as one variant."""
    return compressed(tmp_path_factory.mktemp("newer"), "digits_v2.tflite", "v2", "static_wi8_ai8")


@pytest.fixture
def host(broker, tmp_path):
    folder = tmp_path / "host"
    folder.mkdir()
    return Host(folder, broker.url)


@pytest.fixture
def device(host, tmp_path):
    made = Device(tmp_path, host)
    yield made
    retire([made])


@pytest.fixture(scope="session")
def plant(tmp_path_factory, session_broker, variants):
    """Provide a plant that tests of several modules share: whatever they do to it, a variant serves."""
    with planted(tmp_path_factory.mktemp("plant"), session_broker.url, variants) as made:
        yield made


@pytest.fixture
def serving(plant):
    """Provide the plant; whatever the test does, its agent goes on and a variant serves."""
    host, device = plant
    before = device.pid
    yield host, device
    assert device.pid == before
    until(device.runner, "a variant serves")
    assert device.answers() >= 0.75
