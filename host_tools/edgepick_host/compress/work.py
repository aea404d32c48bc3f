"""The units of work of a search: plain values in, plain values out, so that any process anywhere can do them.

:func:`do` needs nothing but the job, the :class:`Material` that all jobs share, and the table of passes. A technique
that fails is a result, and so is a machine that fails the job, told apart because only the former holds for good; what
is the user's to mend (a task file, a missing package) is raised.
"""

import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import singledispatch
from pathlib import Path
from typing import Any

import numpy as np

from edgepick_host.compress.arena import measure_arena
from edgepick_host.compress.dataset import Dataset, FloatArray
from edgepick_host.compress.golden import tolerance
from edgepick_host.compress.layers import measured_layers, most_hurting
from edgepick_host.compress.predictor import open_predictor
from edgepick_host.compress.quality import Labels, answers, mean_abs_error, middle_of
from edgepick_host.compress.shortage import is_shortage
from edgepick_host.compress.source import describe, normalised
from edgepick_host.compress.step import PassLoader, Range, StepContext
from edgepick_host.core.layer_errors import LayerError
from edgepick_host.core.model_facts import ModelFacts
from edgepick_host.core.paired import least_loss
from edgepick_host.core.variants import Recipe, Step
from edgepick_host.core.verify import ArenaFacts
from edgepick_host.errors import CompressionError, HostError
from edgepick_wire.manifest import ModelFormat

COMPRESSION_LEVEL = 9
MOST_CONFUSIONS = 50
"""Kinds of changed answers that are kept, most frequent first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What all jobs of a search share.

    Attributes:
        sources: The normalised float model by format.
        facts: Of each.
        reference: The float model's answers on the evaluation set, ``[N, ...]``.
        golden: Indices of the golden samples in the evaluation set.
        task: The user's task file, if there is one.
        training_passes: ``name -> training pass``, importable by name in another process.
        max_accuracy_drop: Tolerance in share, for what trains until it is reached.
        seed: Of everything random.
    """

    sources: Mapping[ModelFormat, bytes]
    facts: Mapping[ModelFormat, ModelFacts]
    calibration: Dataset
    evaluation: Dataset
    reference: FloatArray
    golden: tuple[int, ...]
    task: Path | None = None
    training_passes: Callable[[str], Any] | None = None
    max_accuracy_drop: float = 0.01
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """The float model that training ended with, and the activation ranges that it fixed."""

    model: bytes
    ranges: Mapping[str, Range]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainJob:
    """Train the task's module by some steps, and export it."""

    training: tuple[Step, ...]
    formats: tuple[ModelFormat, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MakeJob:
    """Run a recipe's steps on the file, starting from what training left, if the recipe trains."""

    recipe: Recipe
    start: Start | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ArenaJob:
    """Load and run a model in tflite-micro."""

    model: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreJob:
    """Evaluate a model, until it is certain to lose more than ``limit``."""

    model: bytes
    format: ModelFormat
    limit: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LayersJob:
    """Compare a model's layers with the float model's.

    Attributes:
        before: Steps that are done to the float model first; they change tensors, but no answer.
        start: The float model that training ended with, to compare with instead.
    """

    model: bytes
    format: ModelFormat
    before: tuple[Step, ...] = ()
    start: Start | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SensitivityJob:
    """Quantize each layer alone by ``recipe``."""

    recipe: Recipe
    start: Start | None = None


Job = TrainJob | MakeJob | ArenaJob | ScoreJob | LayersJob | SensitivityJob


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What training ended with, by format; or why there is nothing."""

    starts: Mapping[ModelFormat, Start] = field(default_factory=dict)
    failure: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A finished model, or why there is none."""

    model: bytes = b""
    failure: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """Answers that differ from the float model's.

    Attributes:
        label: The right answer; -1 without labels.
        float_answer: What the float model says.
        answer: What the variant says.
        count: On how many samples.
    """

    label: int
    float_answer: int
    answer: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """How a model answered the evaluation set, or the part of it that was enough to refuse it.

    Attributes:
        samples: Of the whole set.
        seen: Samples answered; fewer than ``samples`` if evaluation stopped.
        lost: Seen samples that only the float model answers as labelled.
        gained: Seen samples that only this model answers as labelled.
        differing: Seen samples answered otherwise than by the float model.
        labelled: There are labels; without, ``lost`` and ``gained`` are 0.
        least_loss: What it loses on the whole set at least, in share; exactly, if all were seen.
        mean_abs_error: Of all seen outputs.
        min_agreement: For the device's self-test; ``None`` if nothing tells the model from a useless one.
        max_mean_abs_error: Likewise.
        zipped_bytes: Size after zlib level 9.
        failure: Why it does not run; empty if it does.
    """

    samples: int = 0
    seen: int = 0
    lost: int = 0
    gained: int = 0
    differing: int = 0
    labelled: bool = False
    least_loss: float = 0.0
    mean_abs_error: float = 0.0
    min_agreement: float | None = None
    max_mean_abs_error: float | None = None
    zipped_bytes: int = 0
    changed: tuple[Changed, ...] = ()
    failure: str = ""

    @property
    def complete(self) -> bool:
        """Every sample was answered, or none can be."""
        return self.seen == self.samples


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """Errors of layers, in the order of the measurement; why not, where they cannot be had."""

    errors: tuple[LayerError, ...] = ()
    failure: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crashed:
    """The job did not end by itself: its process died, or memory or the disk was short. Another try may go well."""

    reason: str


Result = Trained | Made | ArenaFacts | Score | Layers | Crashed


def do(job: Job, material: Material, passes: PassLoader) -> Result:
    """Return the job's result.

    Raises:
        HostError: What the user must mend: a task file, a missing package.
    """
    try:
        return _done(job, material, passes)
    except HostError:
        raise
    except Exception as error:
        crashed = _crash(error)
        if crashed is None:
            raise
        return crashed


@singledispatch
def _done(job: Job, material: Material, passes: PassLoader) -> Result:
    del material, passes
    raise TypeError(f"{type(job).__name__} is no job")


def _crash(error: Exception) -> Crashed | None:
    """Return that the machine failed, if it did."""
    return Crashed(reason=_named(error)) if is_shortage(error) else None


def _named(error: Exception) -> str:
    first = str(error).strip().partition("\n")[0]
    return first if isinstance(error, HostError) else f"{type(error).__name__}: {first}".removesuffix(": ")


@_done.register
def _train(job: TrainJob, material: Material, passes: PassLoader) -> Trained | Crashed:
    del passes
    try:
        return Trained(starts=_trained(job, material))
    except CompressionError as error:
        return _crash(error) or Trained(failure=str(error))


def _trained(job: TrainJob, material: Material) -> dict[ModelFormat, Start]:
    from edgepick_host.compress.training.engine import export_trained, train, training_context
    from edgepick_host.compress.training.task import load_task

    assert material.task is not None
    assert material.training_passes is not None
    context = training_context(
        load_task(material.task),
        calibration=material.calibration,
        max_accuracy_drop=material.max_accuracy_drop,
        seed=material.seed,
        say=lambda _: None,
    )
    module = train(job.training, context, material.training_passes)
    exported = {each: export_trained(module, each, context) for each in job.formats}
    return {each: Start(model=normalised(data, each), ranges=ranges) for each, (data, ranges) in exported.items()}


@_done.register
def _make(job: MakeJob, material: Material, passes: PassLoader) -> Made | Crashed:
    try:
        model, context = started(job.recipe, job.start, material)
        for step in job.recipe.steps:
            model = passes(step.pass_name)(model, step.parameters, context)
        describe(model, job.recipe.format, Path(job.recipe.name))
    except CompressionError as error:
        return _crash(error) or Made(failure=str(error))
    except HostError:
        raise
    except Exception as error:  # noqa: BLE001 - an engine may raise anything; the candidate falls, the search goes on
        return _crash(error) or Made(failure=_named(error))
    return Made(model=model)


def started(recipe: Recipe, start: Start | None, material: Material) -> tuple[bytes, StepContext]:
    """Return the float model that the file steps start from, and what they may look at."""
    model_format = recipe.format
    if start is None:
        context = StepContext(calibration=material.calibration, source=material.facts[model_format])
        return material.sources[model_format], context
    facts = describe(start.model, model_format, Path(recipe.name))
    return start.model, StepContext(calibration=material.calibration, source=facts, ranges=start.ranges)


@_done.register
def _arena(job: ArenaJob, material: Material, passes: PassLoader) -> ArenaFacts | Crashed:
    del passes
    golden = material.evaluation.subset(material.golden)
    found = measure_arena(job.model, golden, material.facts[ModelFormat.TFLITE].inputs)
    return found if found.lasting else Crashed(reason=found.failure)


@_done.register
def _score(job: ScoreJob, material: Material, passes: PassLoader) -> Score | Crashed:
    del passes
    try:
        return _Scorer(job, material).score()
    except (CompressionError, RuntimeError, ValueError) as error:
        return _crash(error) or Score(failure=str(error).partition("\n")[0])


@_done.register
def _layers(job: LayersJob, material: Material, passes: PassLoader) -> Layers | Crashed:
    try:
        context = StepContext(calibration=material.calibration, source=material.facts[job.format])
        model = material.sources[job.format] if job.start is None else job.start.model
        for step in job.before:
            model = passes(step.pass_name)(model, step.parameters, context)
        return Layers(errors=measured_layers(model, job.model, job.format, context))
    except Exception as error:  # noqa: BLE001 - an explanation that fails must not fail the search
        return _crash(error) or Layers(failure=str(error).partition("\n")[0] or type(error).__name__)


@_done.register
def _sensitivity(job: SensitivityJob, material: Material, passes: PassLoader) -> Layers | Crashed:
    try:
        return Layers(errors=most_hurting(job.recipe, *started(job.recipe, job.start, material), passes))
    except HostError as error:
        return _crash(error) or Layers(failure=str(error))


class _Scorer:
    """One model on the evaluation set, in the order in which a loser shows first."""

    def __init__(self, job: ScoreJob, material: Material) -> None:
        self._job, self._material = job, material
        self._predictor = open_predictor(job.model, job.format, exact=True)
        self._labels: Labels | None = material.evaluation.labels
        self._middle = middle_of(material.reference)
        self._ideal = answers(material.reference, self._middle)
        self._outputs = np.zeros_like(material.reference)
        self._tally = _Tally(samples=len(material.evaluation), labelled=self._labels is not None)
        right = None if self._labels is None else self._ideal == self._labels
        self._tally.open_gains = 0 if right is None else int(np.sum(~right))

    def score(self) -> Score:
        seen: list[int] = []
        inputs = self._material.facts[self._job.format].inputs
        order = evaluation_order(self._ideal, self._labels, self._material.seed)
        for index, sample in zip(order, self._material.evaluation.subset(order).samples(inputs), strict=True):
            self._outputs[index] = self._predictor.run(sample)
            if not np.isfinite(self._outputs[index]).all():
                return Score(failure="answers with NaN or infinity")
            seen.append(index)
            self._count(index)
            if self._tally.least_loss > self._job.limit:
                break
        return self._result(seen)

    def _count(self, index: int) -> None:
        answer = int(answers(self._outputs[index : index + 1], self._middle)[0])
        label = -1 if self._labels is None else int(self._labels[index])
        self._tally.add(label, int(self._ideal[index]), answer)

    def _result(self, seen: list[int]) -> Score:
        tally, golden, reference = self._tally, list(self._material.golden), self._material.reference
        complete = len(seen) == tally.samples
        allowed = tolerance(self._outputs[golden], reference[golden]) if complete else None
        return Score(
            samples=tally.samples,
            seen=len(seen),
            lost=tally.lost,
            gained=tally.gained,
            differing=tally.differing,
            labelled=tally.labelled,
            least_loss=tally.least_loss,
            mean_abs_error=mean_abs_error(self._outputs[seen], reference[seen]),
            min_agreement=allowed.min_agreement if allowed else None,
            max_mean_abs_error=allowed.max_mean_abs_error if allowed else None,
            zipped_bytes=len(zlib.compress(self._job.model, COMPRESSION_LEVEL)),
            changed=tally.most_changed(),
        )


@dataclass(slots=True, kw_only=True)
class _Tally:
    """Counts of what was seen so far."""

    samples: int
    labelled: bool
    lost: int = 0
    gained: int = 0
    differing: int = 0
    open_gains: int = 0
    changed: "Counter[tuple[int, int, int]]" = field(default_factory=Counter)

    def add(self, label: int, ideal: int, answer: int) -> None:
        """Count one sample's answer."""
        if self.labelled:
            self.open_gains -= ideal != label
            self.lost += ideal == label != answer
            self.gained += ideal != label == answer
        if answer != ideal:
            self.differing += 1
            self.changed[label, ideal, answer] += 1

    @property
    def least_loss(self) -> float:
        """What the whole set will show at least."""
        if not self.labelled:
            return self.differing / self.samples
        return least_loss(self.lost, self.gained, self.open_gains, self.samples)

    def most_changed(self) -> tuple[Changed, ...]:
        """Return kinds of changed answers, the frequent ones first."""
        ordered = sorted(self.changed.items(), key=lambda item: (-item[1], item[0]))[:MOST_CONFUSIONS]
        return tuple(Changed(label=a, float_answer=b, answer=c, count=n) for (a, b, c), n in ordered)


def evaluation_order(ideal: Labels, labels: Labels | None, seed: int) -> list[int]:
    """Return all indices: first the samples that the float model answers wrong, then the others, shuffled.

    Only the former can win anything back, so once they are answered every further loss counts for good.
    """
    shuffled = np.random.default_rng(seed).permutation(len(ideal))
    if labels is None:
        return [int(index) for index in shuffled]
    wrong = ideal != labels
    return [int(index) for index in (*shuffled[wrong[shuffled]], *shuffled[~wrong[shuffled]])]
