"""The shipped profiles: complete, sourced, and within the words the other parts know."""

import dataclasses
import textwrap
from pathlib import Path

import pytest

from edgepick_agent import instruments
from edgepick_profiles import schema
from edgepick_profiles.load import load_all, load_profile
from edgepick_profiles.schema import NumberType, OperatorSet, Profile
from edgepick_wire.manifest import ModelFormat, RuntimeChoice, RuntimeName

PROFILES = load_all()
REQUIRED = {
    "raspberry-pi-3",
    "raspberry-pi-4",
    "raspberry-pi-5",
    "raspberry-pi-zero-2w",
    "coral-dev-board",
    "coral-usb-accelerator",
    "jetson-nano",
    "jetson-tx2",
    "jetson-xavier-nx",
    "jetson-agx-xavier",
    "jetson-orin-nano",
    "jetson-agx-orin",
    "mcu-cortex-m4",
    "mcu-cortex-m7",
    "esp32-s3",
    "generic-linux",
}

every_profile = pytest.mark.parametrize("profile", PROFILES.values(), ids=list(PROFILES))
every_coral = pytest.mark.parametrize("name", ["coral-dev-board", "coral-usb-accelerator"])
every_mcu = pytest.mark.parametrize("name", ["mcu-cortex-m4", "mcu-cortex-m7", "esp32-s3"])
INT8_JETSONS = ["jetson-orin-nano", "jetson-agx-orin", "jetson-xavier-nx", "jetson-agx-xavier"]
every_orin = pytest.mark.parametrize("name", INT8_JETSONS)


def test_all_promised_boards_are_there():
    """Every board that the README promises has a profile."""
    assert set(PROFILES) >= REQUIRED


@every_profile
def test_every_fact_has_a_source(profile: Profile):
    """Each profile names its documents, and none of them is a file of somebody's machine."""
    references = [source.reference for source in profile.sources]

    assert len(references) >= 3
    assert not [r for r in references if r.startswith(("/", "file:", "."))]


@every_profile
def test_every_profile_has_the_budgets_that_a_decision_needs(profile: Profile):
    """Latency, memory and model size are limited on every board, energy only where something measures it."""
    budgets = profile.budgets

    assert budgets.latency_p95_ms
    assert budgets.model_bytes
    assert budgets.arena_bytes if profile.gateway else budgets.peak_rss_bytes
    assert budgets.energy_mj is None or profile.sensors


@every_profile
def test_every_format_can_be_run(profile: Profile):
    """For each format that a profile accepts, it names a runtime that reads it."""
    assert all(profile.runtimes_for(model_format) for model_format in profile.rules.formats)


def test_sensor_names_are_the_agents():
    """A profile can name every power sensor that the agent has, and no other."""
    assert set(schema.KNOWN_SENSORS) == set(instruments.SENSORS)


def test_runtime_names_are_the_wires():
    """Every runtime of the protocol has a format and accelerators that profiles are checked by."""
    assert set(schema.RUNTIME_FORMATS) == set(schema.RUNTIME_ACCELERATORS) == set(RuntimeName)


@every_coral
def test_coral_takes_integer_models_only(name: str):
    """An Edge TPU is offered nothing with a float tensor or a per-channel dense layer."""
    profile = PROFILES[name]

    assert profile.rules.formats == (ModelFormat.TFLITE,)
    assert profile.rules.number_types == (NumberType.INT8,)
    assert profile.rules.integer_only
    assert not profile.rules.per_channel_dense
    assert profile.rules.operators is OperatorSet.EDGE_TPU
    assert [r.accelerators for r in profile.runtimes] == [("edgetpu", "cpu")] * 2


def test_coral_usb_inherits_the_pi():
    """The USB accelerator has the Pi's memory and clock, but its own rules and runtimes."""
    coral, board = PROFILES["coral-usb-accelerator"], PROFILES["raspberry-pi-4"]

    assert coral.inherits == "raspberry-pi-4"
    assert coral.hardware.ram_bytes == board.hardware.ram_bytes
    assert coral.throttling == board.throttling
    assert coral.rules != board.rules


@pytest.mark.parametrize("name", ["jetson-nano", "jetson-tx2"])
def test_jetsons_without_int8_hardware_are_offered_floats_only(name: str):
    """Maxwell and Pascal have half precision and no int8: no recipe, named or composed, may bring integers."""
    profile = PROFILES[name]

    assert set(profile.rules.number_types) == {NumberType.FLOAT32, NumberType.FLOAT16}
    assert profile.rules.formats == (ModelFormat.ONNX,)
    assert set(profile.recipes) <= {"float32", "float16"}
    assert not profile.rules.hybrid


@every_orin
def test_orin_takes_symmetric_qdq(name: str):
    """TensorRT int8 means ONNX with all zero points 0, and float stays possible."""
    rules = PROFILES[name].rules

    assert rules.formats == (ModelFormat.ONNX,)
    assert rules.symmetric_qdq
    assert set(rules.number_types) == {NumberType.FLOAT32, NumberType.FLOAT16, NumberType.INT8}


@every_mcu
def test_microcontrollers_keep_room_for_the_application(name: str):
    """The arena with its margin of 15 % leaves at least a fifth of the RAM, the model some flash."""
    profile = PROFILES[name]
    arena, ram = profile.budgets.arena_bytes, profile.hardware.ram_bytes

    assert profile.gateway
    assert [r.name for r in profile.runtimes] == [RuntimeName.TFLM]
    assert arena is not None
    assert arena * (1 + schema.ARENA_MARGIN) <= 0.8 * ram
    assert profile.budgets.model_bytes < profile.hardware.flash_bytes


def test_cortex_m4_has_the_promised_size():
    """The small microcontroller has 256 KiB of RAM and 1 MiB of flash."""
    hardware = PROFILES["mcu-cortex-m4"].hardware

    assert (hardware.ram_bytes, hardware.flash_bytes) == (256 * 1024, 1024**2)


def test_raspberry_pi_3_is_the_32_bit_class():
    """On the 32-bit system only .tflite runs, by tflite_runtime if it is there, else by LiteRT."""
    profile = PROFILES["raspberry-pi-3"]

    assert profile.hardware.isa == "armv7-a"
    assert profile.rules.formats == (ModelFormat.TFLITE,)
    assert [r.name for r in profile.runtimes] == [RuntimeName.TFLITE_RUNTIME, RuntimeName.LITERT]


def test_the_guide_explains_every_key_and_word():
    """The guide names each key, recipe, sensor, runtime and accelerator that a profile may use."""
    text = (Path(__file__).parents[2] / "docs" / "profiles.md").read_text(encoding="utf-8")
    parts = (schema.Profile, schema.Hardware, schema.Rules, schema.Budgets, schema.Source, RuntimeChoice)
    keys = {field.name for part in parts for field in dataclasses.fields(part)} - {"hardware", "rules", "budgets"}
    words = {*schema.KNOWN_RECIPES, *schema.KNOWN_SENSORS, *schema.KNOWN_THROTTLING, *RuntimeName, *NumberType}
    words |= {word for names in schema.RUNTIME_ACCELERATORS.values() for word in names} | set(OperatorSet)

    assert {word for word in keys | words if f"`{word}`" not in text} == set()


def test_the_guides_example_is_a_profile(tmp_path: Path):
    """The example of docs/profiles.md passes the check."""
    text = (Path(__file__).parents[2] / "docs" / "profiles.md").read_text(encoding="utf-8")
    example = textwrap.dedent(text.partition("```toml\n")[2].partition("```")[0])
    (tmp_path / "gate-camera.toml").write_text(example)

    profile = load_profile("gate-camera", directories=[tmp_path])

    assert profile.budgets.latency_p95_ms == 40.0
    assert profile.hardware.cores == 4
