"""The text of exported sources, from values: same values, same bytes. Pure but for reading its own templates."""

import textwrap
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from string import Template

import numpy as np

from edgepick_host.compress.dataset import Array
from edgepick_host.core.operator_tables import resolver_method
from edgepick_profiles.schema import ARENA_MARGIN
from edgepick_wire.version import __version__

WIDTH = 118
BYTES_PER_LINE = 16
NUMBERS_PER_LINE = 20
TEMPLATES = "edgepick_host.compress.c_templates"

SUFFIXES = {
    "model.h": "_model.h",
    "model.c": "_model.c",
    "golden.h": "_golden.h",
    "golden.c": "_golden.c",
    "quantize.h": "_quantize.h",
    "quantize.c": "_quantize.c",
    "self_check.c": "_self_check.c",
    "ops.h": "_ops.h",
    "ops.cc": "_ops.cc",
    "main.cc": "_main.cc",
}
"""Template -> what follows the prefix in the file's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CTensor:
    """A quantized input or output, with its golden values.

    Attributes:
        scale: Real value of one step.
        golden: ``[samples, ...]`` in the tensor's own type.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    scale: float
    zero_point: int
    golden: Array

    @property
    def c_type(self) -> str:
        """The type of its elements in C."""
        return f"{self.dtype}_t"

    @property
    def elements(self) -> int:
        """Number of its values."""
        return int(np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True, slots=True, kw_only=True)
class CModel:
    """What the sources say.

    Attributes:
        name: The model's.
        variant: The variant's.
        sha256: Of ``data``.
        prefix: Of files and C names.
        data: The ``.tflite`` file.
        operators: Kinds to register, sorted.
        arena_bytes: Smallest arena in which tflite-micro ran it on a host.
        arena_with_margin_bytes: What to reserve.
        head_bytes: The part of it that tensors share in turn.
        peak: Where that is largest, in words.
        allowed_steps: Tolerated difference to the golden outputs.
        max_steps: Difference that tflite-micro showed on a host.
    """

    name: str
    variant: str
    sha256: str
    prefix: str
    data: bytes
    inputs: tuple[CTensor, ...]
    outputs: tuple[CTensor, ...]
    operators: tuple[str, ...]
    arena_bytes: int
    arena_with_margin_bytes: int
    head_bytes: int
    peak: str
    allowed_steps: int
    max_steps: int


def rendered(model: CModel) -> dict[str, bytes]:
    """Return the files by name."""
    words = _words(model)
    files = {f"{model.prefix}{suffix}": _template(name).substitute(words).encode() for name, suffix in SUFFIXES.items()}
    files["README.md"] = _template("README.md").substitute(words).encode()
    files[f"{model.prefix}.tflite"] = model.data
    return files


@cache
def _template(name: str) -> Template:
    return Template((resources.files(TEMPLATES) / name).read_text(encoding="utf-8"))


def _words(model: CModel) -> dict[str, str]:
    upper = model.prefix.upper()
    camel = "".join(part.capitalize() for part in model.prefix.split("_"))
    roles = [("INPUT", model.inputs), ("OUTPUT", model.outputs)]
    return {
        "prefix": model.prefix,
        "PREFIX": upper,
        "Prefix": camel,
        "name": _comment(model.name),
        "variant": _comment(model.variant),
        "sha256": model.sha256,
        "adler32": f"{zlib.adler32(model.data):08x}",
        "version": __version__,
        "model_bytes": str(len(model.data)),
        "arena_bytes": str(model.arena_bytes),
        "arena_with_margin": str(model.arena_with_margin_bytes),
        "arena_margin": f"{ARENA_MARGIN:.0%}",
        "head_bytes": str(model.head_bytes),
        "tail_bytes": str(model.arena_bytes - model.head_bytes),
        "peak": _comment(model.peak),
        "peak_lines": textwrap.fill(
            _comment(f"Of the first, {model.peak}."), WIDTH, initial_indent=" * ", subsequent_indent=" * "
        ),
        "allowed_steps": str(model.allowed_steps),
        "max_steps": str(model.max_steps),
        "samples": str(len(model.inputs[0].golden)),
        "tensors": "\n".join(
            line
            for role, each in roles
            for line in (f"#define {upper}_{role}S {len(each)}", *_facts(upper, role, each))
        ),
        "data": _rows((f"0x{byte:02x}" for byte in model.data), BYTES_PER_LINE),
        "golden_declarations": "\n".join(_declarations(model)),
        "golden_definitions": "\n".join(_definitions(model)),
        "difference_declarations": "\n".join(_difference_declarations(model)),
        "difference_definitions": "\n".join(_filled_each(model, output="output_difference.c")),
        "quantize_declarations": "\n".join(_quantize_declarations(model)),
        "quantize_definitions": "\n".join(
            _filled_each(model, input="input_quantize.c", output="output_quantize.c")
        ).rstrip(),
        "self_checks": "\n".join(_self_checks(model)),
        "operators": str(len(model.operators)),
        "operator_list": ", ".join(model.operators),
        "registrations": "\n".join(_registrations(model.operators)),
        "feeds": "\n".join(_feeds(model)),
        "answers": "\n".join(_answers(model)),
        "tensor_table": "\n".join(_table_row(role, number, each) for role, number, each in _numbered(model)),
    }


def _comment(text: str) -> str:
    """Return text that cannot end a comment or a table's cell."""
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in text).replace("*/", "* /").replace("|", "/")


def _numbered(model: CModel) -> Iterable[tuple[str, int, CTensor]]:
    for role, tensors in (("input", model.inputs), ("output", model.outputs)):
        for number, tensor in enumerate(tensors):
            yield role, number, tensor


def _facts(upper: str, role: str, tensors: Sequence[CTensor]) -> Iterable[str]:
    for number, tensor in enumerate(tensors):
        start = f"#define {upper}_{role}_{number}"
        yield f"/* {_comment(tensor.name)}: {tensor.dtype} {list(tensor.shape)} */"
        yield f"{start}_TYPE {tensor.c_type}"
        yield f"{start}_ELEMENTS {tensor.elements}"
        yield f"{start}_SHAPE {{{', '.join(map(str, tensor.shape))}}}"
        yield f"{start}_SCALE {float_literal(tensor.scale)}"
        yield f"{start}_ZERO_POINT ({tensor.zero_point})"


def float_literal(value: float) -> str:
    """Return the shortest C literal that reads back as the same float32."""
    text = np.format_float_scientific(np.float32(value), unique=True, trim="0", exp_digits=2)
    return f"{text}f"


def _rows(values: Iterable[str], width: int) -> str:
    items = list(values)
    return ",\n".join("    " + ", ".join(items[i : i + width]) for i in range(0, len(items), width))


def _declarations(model: CModel) -> Iterable[str]:
    for role, number, tensor in _numbered(model):
        sizes = f"[{model.prefix.upper()}_GOLDEN_SAMPLES][{model.prefix.upper()}_{role.upper()}_{number}_ELEMENTS]"
        yield f"extern const {tensor.c_type} {model.prefix}_golden_{role}_{number}{sizes};"


def _definitions(model: CModel) -> Iterable[str]:
    for role, number, tensor in _numbered(model):
        sizes = f"[{model.prefix.upper()}_GOLDEN_SAMPLES][{model.prefix.upper()}_{role.upper()}_{number}_ELEMENTS]"
        yield f"const {tensor.c_type} {model.prefix}_golden_{role}_{number}{sizes} = {{"
        for sample in tensor.golden.reshape(len(tensor.golden), -1):
            yield f"  {{\n{_rows((str(int(value)) for value in sample), NUMBERS_PER_LINE)}}},"
        yield "};"


def _quantize_declarations(model: CModel) -> Iterable[str]:
    for role, number, tensor in _numbered(model):
        if role == "input":
            yield f"{tensor.c_type} {model.prefix}_quantize_input_{number}(float value);"
        else:
            yield f"float {model.prefix}_dequantize_output_{number}({tensor.c_type} value);"


def _difference_declarations(model: CModel) -> Iterable[str]:
    for number, tensor in enumerate(model.outputs):
        yield f"int32_t {model.prefix}_difference_{number}(const {tensor.c_type} *answer, size_t sample);"


def _filled_each(model: CModel, **templates: str) -> Iterable[str]:
    """Yield the template of its role for each tensor that has one."""
    for role, number, tensor in _numbered(model):
        words = {
            "prefix": model.prefix,
            "tensor": f"{model.prefix.upper()}_{role.upper()}_{number}",
            "number": str(number),
            "type": tensor.c_type,
            "least": str(np.iinfo(tensor.dtype).min),
            "most": str(np.iinfo(tensor.dtype).max),
        }
        if role in templates:
            yield _template(templates[role]).substitute(words)


def _self_checks(model: CModel) -> Iterable[str]:
    for number in range(len(model.outputs)):
        call = f"{model.prefix}_difference_{number}({model.prefix}_golden_output_{number}[sample], sample)"
        yield f"    failures += {call} != 0;"


def _registrations(operators: Sequence[str]) -> Iterable[str]:
    for name in operators:
        yield f"  if (resolver.{resolver_method(name)}() != kTfLiteOk) return kTfLiteError;"


def _feeds(model: CModel) -> Iterable[str]:
    for number in range(len(model.inputs)):
        source = f"{model.prefix}_golden_input_{number}[sample]"
        yield f"    std::memcpy(interpreter.input({number})->data.data, {source}, sizeof {source});"


def _answers(model: CModel) -> Iterable[str]:
    for number, tensor in enumerate(model.outputs):
        answer = f"static_cast<const {tensor.c_type}*>(interpreter.output({number})->data.data)"
        yield f"    largest = std::max(largest, {model.prefix}_difference_{number}({answer}, sample));"


def _table_row(role: str, number: int, tensor: CTensor) -> str:
    facts = f"{tensor.dtype} | {list(tensor.shape)} | {tensor.scale:.9g} | {tensor.zero_point}"
    return f"| {role} {number} | `{_comment(tensor.name)}` | {facts} |"
