"""What a compressed model must be, checked on the facts of the finished file. Pure.

The other half of :mod:`edgepick_host.core.plan`: nothing here trusts that an engine did what it was asked.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from edgepick_host.core.left_in_float import float_operators, named
from edgepick_host.core.model_facts import ModelFacts, OperatorFacts, TensorFacts
from edgepick_host.core.operator_tables import EDGE_TPU_OPERATORS
from edgepick_host.core.plan import operator_objection
from edgepick_host.core.recipes import is_quantized
from edgepick_host.core.tensorrt_rules import tensorrt_objections
from edgepick_host.core.variants import Recipe, RejectionCode
from edgepick_profiles.schema import Budgets, NumberType, OperatorSet, Profile, Rules
from edgepick_wire.manifest import ModelFormat

MAX_TFLM_LSB = 3
"""tflite-micro and LiteRT's reference kernels differ by up to 3 steps on the deepest published model
(MLPerf Tiny anomaly detection, ten dense layers)."""

LEAST_TFLM_LSB = 1
"""Elsewhere their kernels round the same way, but for the last step."""

WIDE_TFLM_LSB = 16
"""Of 16-bit outputs, whose step is 1/256 of an 8-bit one: their softmax interpolates in tables (6 steps measured)."""

SHOWN_TENSORS = 3

INNERMOST = 3
"""The Edge TPU takes tensors of a higher rank only if just their three innermost sizes exceed 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorBytes:
    """A tensor and what it takes in the arena."""

    name: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ArenaPeak:
    """Where the part of an arena that tensors share is largest.

    Attributes:
        operator: Kind of the operator that runs there.
        number: Its place in the graph, from 0.
        live_bytes: Sum of the tensors that live there, each in multiples of the arena's alignment.
        head_bytes: How far they reach, with the gaps that the planner leaves between them.
        tensors: Largest first.
    """

    operator: str
    number: int
    live_bytes: int
    head_bytes: int
    tensors: tuple[TensorBytes, ...]

    @property
    def text(self) -> str:
        """The peak as a person reads it."""
        # TensorFlow's converter joins the names of all that it fused with semicolons.
        named = [(tensor.name.partition(";")[0], tensor.size_bytes) for tensor in self.tensors[:SHOWN_TENSORS]]
        shown = ", ".join(f"{name} ({size:,})" for name, size in named)
        more = len(self.tensors) - SHOWN_TENSORS
        rest = f" and {more} more" if more > 0 else ""
        gaps = self.head_bytes - self.live_bytes
        left = f", and {gaps:,} in gaps" if gaps else ""
        where = f"the peak is operator {self.number}, {self.operator}"
        return f"{where}: {self.live_bytes:,} bytes in {shown}{rest}{left}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArenaFacts:
    """What tflite-micro found by running a model.

    Attributes:
        arena_bytes: Smallest arena in which the model loads and runs (64-bit host; a 32-bit device needs no more).
        recorded_bytes: What its recording allocator counted.
        head_bytes: The part of it that tensors share in turn; the rest stays for good.
        max_lsb: Largest difference of a quantized output to LiteRT's reference kernels, in steps.
        peak: Where most tensors live at once.
        failure: Why it does not run; empty if it does.
        lasting: The failure is the model's, so that another try ends alike.
    """

    arena_bytes: int = 0
    recorded_bytes: int = 0
    head_bytes: int = 0
    max_lsb: int = 0
    peak: ArenaPeak | None = None
    failure: str = ""
    lasting: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Objection:
    """Why a finished model is not offered to a profile."""

    code: RejectionCode
    reason: str


def engine_objection(recipe: Recipe, facts: ModelFacts) -> str | None:
    """Return what shows that the engine did not do its work, whatever the profile, or ``None``."""
    if is_quantized(recipe) and not facts.narrow_constants:
        return "the quantizer changed nothing: no constant became narrower"
    if facts.external_buffers:
        return f"{facts.external_buffers} constants lie outside of the model's own structure"
    if facts.saturated_biases:
        return f"the bias of {', '.join(facts.saturated_biases[:3])} does not fit 32 bits at its scale"
    return None


def profile_objection(facts: ModelFacts, profile: Profile, arena: ArenaFacts | None) -> Objection | None:
    """Return the first reason why ``profile`` cannot take this model, or ``None``."""
    broken = next(_broken_rules(facts, profile.rules, arena), None)
    if broken is not None:
        return Objection(code=RejectionCode.VERIFICATION, reason=broken)
    over = next(_over_budget(facts, profile.budgets, arena), None)
    return None if over is None else Objection(code=RejectionCode.BUDGET, reason=over)


def _broken_rules(facts: ModelFacts, rules: Rules, arena: ArenaFacts | None) -> Iterator[str]:
    if rules.integer_only and facts.float_tensors:
        names = ", ".join(tensor.name for tensor in facts.float_tensors[:3])
        skipped = named(float_operators(facts))
        why = f"; the quantizer has no integer form of {skipped}" if skipped else ""
        yield f"{len(facts.float_tensors)} float tensors are left ({names}){why}"
    if NumberType.INT8 not in rules.number_types and (facts.quantizers or _integer_constants(facts)):
        yield "it holds 8-bit integers, which the device does not compute with"
    if rules.static_shapes and (open_tensor := _open_shape(facts)):
        yield f"tensor {open_tensor.name} has an open size {list(open_tensor.shape)}"
    if missing := operator_objection(facts, rules):
        yield missing
    if rules.operators is OperatorSet.EDGE_TPU:
        yield from _edge_tpu(facts)
    if rules.symmetric_qdq and facts.format is ModelFormat.ONNX:
        yield from tensorrt_objections(facts)
    if arena is not None:
        yield from _arena_failures(facts, arena)


def _integer_constants(facts: ModelFacts) -> bool:
    return any(tensor.dtype in {"int8", "uint8"} for tensor in facts.narrow_constants)


def _open_shape(facts: ModelFacts) -> TensorFacts | None:
    return next((tensor for tensor in facts.tensors if -1 in tensor.shape), None)


def _edge_tpu(facts: ModelFacts) -> Iterator[str]:
    for operator in facts.operators:
        yield from _edge_tpu_operator(operator)
    if narrow := next((tensor for tensor in facts.narrow_constants if tensor.dtype in {"int4", "uint4"}), None):
        yield f"{narrow.name} is {narrow.dtype}; the Edge TPU takes 8-bit weights"
    for tensor in facts.tensors:
        if any(size > 1 for size in tensor.shape[:-INNERMOST]) and not tensor.constant:
            yield f"tensor {tensor.name} {list(tensor.shape)} exceeds the Edge TPU's three innermost dimensions"


def _edge_tpu_operator(operator: OperatorFacts) -> Iterator[str]:
    line = EDGE_TPU_OPERATORS.get(operator.name)
    if line is None:
        return
    if operator.version > line.max_version:
        known = f"[{line.version_confidence.value}: {line.version_source}]"
        yield f"{operator.name} has version {operator.version}; the Edge TPU compiler takes {line.max_version} {known}"
    if not line.fused_activation and operator.fused_activation != "NONE":
        yield f"{operator.name} applies {operator.fused_activation} itself, which the Edge TPU does not take"
    if line.constant_weights and len(operator.inputs) > 1 and not operator.inputs[1].constant:
        yield f"{operator.name} has weights that are computed; the Edge TPU needs constants"


def tflm_tolerance(facts: ModelFacts) -> int:
    """Return how many steps tflite-micro may be off LiteRT's reference kernels: more for chains of dense layers."""
    if any(tensor.dtype == "int16" for tensor in facts.outputs):
        return WIDE_TFLM_LSB
    dense = sum(operator.name == "FULLY_CONNECTED" for operator in facts.operators)
    return MAX_TFLM_LSB if dense > 1 else LEAST_TFLM_LSB


def _arena_failures(facts: ModelFacts, arena: ArenaFacts) -> Iterator[str]:
    allowed = tflm_tolerance(facts)
    if arena.failure:
        yield f"tflite-micro does not run it: {arena.failure}"
    if arena.max_lsb > allowed:
        yield f"tflite-micro answers up to {arena.max_lsb} steps off LiteRT's; at most {allowed} are accepted"


def _over_budget(facts: ModelFacts, budgets: Budgets, arena: ArenaFacts | None) -> Iterator[str]:
    if budgets.model_bytes is not None and facts.size_bytes > budgets.model_bytes:
        over = facts.size_bytes - budgets.model_bytes
        yield f"{facts.size_bytes:,} bytes are {over:,} more than the profile's budget of {budgets.model_bytes:,}"
    if arena is not None and budgets.arena_bytes is not None and arena.arena_bytes > budgets.arena_bytes:
        over = arena.arena_bytes - budgets.arena_bytes
        needed = f"needs an arena of {arena.arena_bytes:,} bytes, {over:,} more than the profile's budget of"
        peak = f"; {arena.peak.text}" if arena.peak else ""
        yield f"{needed} {budgets.arena_bytes:,}{peak}"
