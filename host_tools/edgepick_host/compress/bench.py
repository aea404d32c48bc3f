"""The bench that every candidate is measured on: the float model, the data, and the golden samples."""

from collections.abc import Mapping
from dataclasses import dataclass

from edgepick_host.compress.dataset import Dataset, FloatArray, check_fits, load_dataset
from edgepick_host.compress.golden import choose_golden
from edgepick_host.compress.quality import accuracy, answers, middle_of
from edgepick_host.compress.request import CompressRequest, Say
from edgepick_host.compress.source import SourceModel, describe, load_sources, reference_outputs
from edgepick_host.compress.task_source import check_same_network, task_models
from edgepick_host.core.model_facts import ModelFacts
from edgepick_profiles.schema import Profile
from edgepick_wire.ids import digest_of
from edgepick_wire.manifest import ModelFormat


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Everything that every candidate is measured against.

    Attributes:
        sources: The float model by format, the one that was given first coming first.
        reference: The float model's answers on the evaluation set, ``[N, ...]``.
        golden: Indices of the golden samples in the evaluation set.
        digests: Of the calibration and the evaluation archive.
    """

    request: CompressRequest
    sources: Mapping[ModelFormat, SourceModel]
    calibration: Dataset
    evaluation: Dataset
    reference: FloatArray
    golden: tuple[int, ...]
    digests: Mapping[str, str]

    @property
    def first(self) -> SourceModel:
        """The float model that was given first: the reference."""
        return next(iter(self.sources.values()))

    @property
    def golden_set(self) -> Dataset:
        """The golden samples."""
        return self.evaluation.subset(self.golden)

    @property
    def float_right(self) -> int | None:
        """Evaluation samples that the float model answers as labelled; ``None`` without labels."""
        labels = self.evaluation.labels
        return None if labels is None else int((answers(self.reference, middle_of(self.reference)) == labels).sum())

    @property
    def float_accuracy(self) -> float | None:
        """The share of them (0..1); ``None`` without labels."""
        return accuracy(self.reference, self.evaluation.labels, middle_of(self.reference))

    @property
    def float_wrong(self) -> int:
        """Evaluation samples that a variant can win; none without labels, where the float model is always right."""
        return 0 if self.float_right is None else len(self.evaluation) - self.float_right

    @property
    def limit(self) -> float:
        """The largest loss that is tolerated, in share, absolute."""
        asked, found = self.request.max_accuracy_drop, self.float_accuracy
        return asked if not self.request.relative or found is None else asked * found

    def facts_of(self, model: bytes, model_format: ModelFormat) -> ModelFacts:
        """Return the facts of a model that was made from the float model."""
        return describe(model, model_format, self.sources[model_format].path)

    def profile(self, name: str) -> Profile:
        """Return the profile of that name."""
        return next(profile for profile in self.request.profiles if profile.name == name)


def open_bench(request: CompressRequest, say: Say) -> Bench:
    """Return the bench, after every file of the user's has been checked.

    Raises:
        InputFileError: A model or an archive is not what it should be.
    """
    say("reading models and data")
    with task_models(request, say) as models:
        sources = load_sources(models)
    calibration, evaluation = load_dataset(request.calibration), load_dataset(request.evaluation)
    for source in sources.values():
        for dataset in (calibration, evaluation):
            check_fits(dataset, source.facts.inputs, source.facts.outputs)
    if request.calibration_samples:
        from edgepick_host.compress.coreset import CoresetMethod, calibration_coreset

        say(f"choosing {request.calibration_samples} of {len(calibration)} calibration samples")
        first, method = next(iter(sources.values())), CoresetMethod(request.coreset)
        calibration = calibration_coreset(calibration, first, request.calibration_samples, method, request.seed)
    say(f"running the float model on {len(evaluation)} evaluation samples")
    reference = reference_outputs(sources, evaluation)
    if request.task is not None and request.models:
        check_same_network(request.task, sources, evaluation, say)
    groups = answers(reference, middle_of(reference)) if evaluation.labels is None else evaluation.labels
    return Bench(
        request=request,
        sources=sources,
        calibration=calibration,
        evaluation=evaluation,
        reference=reference,
        golden=choose_golden(groups, request.seed),
        digests={
            "calibration_sha256": digest_of(request.calibration.read_bytes()),
            "evaluation_sha256": digest_of(request.evaluation.read_bytes()),
        },
    )
