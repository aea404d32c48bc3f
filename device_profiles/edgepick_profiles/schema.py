"""Profile: declared facts, rules and budgets of one kind of device. Pure; reads no files.

It also owns the words that a profile may use: recipes, accelerators, sensors, throttling sources.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from edgepick_wire.enums import StrEnum
from edgepick_wire.manifest import ModelFormat, RuntimeChoice, RuntimeName


class NumberType(StrEnum):
    """A number type that a device's runtime executes or stores."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    INT8 = "int8"
    INT16 = "int16"


class OperatorSet(StrEnum):
    """Which operators may appear in a model for this device."""

    ANY = "any"
    EDGE_TPU = "edgetpu"
    TFLM = "tflm"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeTraits:
    """What a recipe's model asks of a device.

    Attributes:
        number_types: Number types in it, all of which the device must accept.
        integer_only: No float tensor is left, inputs and outputs included.
        hybrid: Float activations meet int8 weights (dynamic range).
    """

    number_types: frozenset[NumberType]
    integer_only: bool = False
    hybrid: bool = False


KNOWN_RECIPES: Mapping[str, RecipeTraits] = {
    "float32": RecipeTraits(number_types=frozenset({NumberType.FLOAT32})),
    "float16": RecipeTraits(number_types=frozenset({NumberType.FLOAT32, NumberType.FLOAT16})),
    "dynamic_wi8_afp32": RecipeTraits(number_types=frozenset({NumberType.FLOAT32, NumberType.INT8}), hybrid=True),
    "static_wi8_ai8": RecipeTraits(number_types=frozenset({NumberType.INT8}), integer_only=True),
    "static_wi8_ai8_float_io": RecipeTraits(number_types=frozenset({NumberType.FLOAT32, NumberType.INT8})),
    "pruned50_static_wi8_ai8": RecipeTraits(number_types=frozenset({NumberType.INT8}), integer_only=True),
}
"""Recipe name -> what its model asks of a device; the compressor has a recipe of each name."""

RUNTIME_FORMATS: Mapping[RuntimeName, ModelFormat] = {
    RuntimeName.LITERT: ModelFormat.TFLITE,
    RuntimeName.TFLITE_RUNTIME: ModelFormat.TFLITE,
    RuntimeName.ONNXRUNTIME: ModelFormat.ONNX,
    RuntimeName.TFLM: ModelFormat.TFLITE,
}
"""Runtime -> the model format that it reads."""

RUNTIME_ACCELERATORS: Mapping[RuntimeName, tuple[str, ...]] = {
    RuntimeName.LITERT: ("edgetpu", "xnnpack", "cpu"),
    RuntimeName.TFLITE_RUNTIME: ("edgetpu", "xnnpack", "cpu"),
    RuntimeName.ONNXRUNTIME: ("tensorrt", "cuda", "cpu"),
    RuntimeName.TFLM: ("cpu",),
}
"""Runtime -> delegates or execution providers that may be asked of it."""

KNOWN_SENSORS = ("hwmon-ina3221", "hwmon-ina2xx", "powercap-rapl", "rpi5-pmic", "power-supply")
"""Power sensors that an agent can read."""

KNOWN_THROTTLING = ("vcgencmd", "thermal-zones", "cooling-devices")
"""Where an agent can see that a board throttled."""

ARENA_MARGIN = 0.15
"""Share that a board's arena may exceed the one measured on a host: other kernels ask for other scratch buffers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a fact comes from."""

    fact: str
    reference: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """What the board is.

    Attributes:
        isa: Instruction set ("armv8-a", "armv7-a", "armv7e-m", "xtensa-lx7", "x86-64", ...).
        cores: CPU cores that may run inference.
        clock_mhz: Highest CPU clock.
        ram_bytes: Memory that software can use.
        flash_bytes: Program flash of a microcontroller; ``None`` where storage is a disk.
        accelerators: Names of accelerators on the board ("edgetpu", "cuda-sm87", "dla", ...).
    """

    isa: str
    cores: int
    clock_mhz: int
    ram_bytes: int
    flash_bytes: int | None = None
    accelerators: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a model must be to run here.

    Attributes:
        formats: Accepted model formats.
        number_types: Number types that the runtime accepts for weights and activations.
        integer_only: No float tensor anywhere, inputs and outputs included.
        symmetric_qdq: ONNX int8 only as signed QDQ with all zero points 0 (TensorRT).
        per_channel_dense: Fully-connected weights may be quantized per channel.
        operators: Which operators may appear.
        static_shapes: Every tensor size is fixed.
        hybrid: Float activations with int8 weights (dynamic range) are accepted.
    """

    formats: tuple[ModelFormat, ...]
    number_types: tuple[NumberType, ...]
    integer_only: bool = False
    symmetric_qdq: bool = False
    per_channel_dense: bool = True
    operators: OperatorSet = OperatorSet.ANY
    static_shapes: bool = True
    hybrid: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Budgets:
    """Hard limits of a variant on this device; ``None`` sets none.

    Attributes:
        latency_p95_ms: 95th percentile of single-inference latency, milliseconds.
        peak_rss_bytes: Peak resident set of the runner process.
        arena_bytes: Tensor arena of a microcontroller.
        model_bytes: Model file size.
        energy_mj: Energy per inference, millijoules.
    """

    latency_p95_ms: float | None = None
    peak_rss_bytes: int | None = None
    arena_bytes: int | None = None
    model_bytes: int | None = None
    energy_mj: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One kind of device.

    Attributes:
        name: Identifier, also the device class in manifests ("raspberry-pi-4").
        title: For people.
        inherits: Name of the profile that this one extends.
        runtimes: Ways to run a model, preferred first, with accelerators in order of preference.
        sensors: Power sensors to try, in order ("hwmon-ina3221", "powercap-rapl", ...).
        throttling: Where throttling can be read ("vcgencmd", "thermal-zones", "cooling-devices").
        recipes: Recipes that are tried first, in this order; a search goes on with whatever else the rules allow.
        gateway: Models run on a gateway's interpreter on behalf of the device (microcontrollers).
        watts: Typical active power, only for labelled estimates.
    """

    name: str
    title: str
    description: str = ""
    inherits: str | None = None
    hardware: Hardware
    rules: Rules
    runtimes: tuple[RuntimeChoice, ...]
    budgets: Budgets
    recipes: tuple[str, ...]
    sensors: tuple[str, ...] = ()
    throttling: tuple[str, ...] = ()
    gateway: bool = False
    watts: float | None = None
    sources: tuple[Source, ...] = ()

    def runtimes_for(self, model_format: ModelFormat) -> tuple[RuntimeChoice, ...]:
        """Return the runtimes that read ``model_format``, preferred first."""
        return tuple(choice for choice in self.runtimes if RUNTIME_FORMATS[choice.name] is model_format)
