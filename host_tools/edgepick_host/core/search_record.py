"""``search.json``: everything that a search tried, what came of it, and what it did not try. Values only."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgepick_host.core.edge_tpu import EdgeTpuFacts
from edgepick_host.core.layer_errors import LayerError
from edgepick_host.core.variants import Quality, Recipe, RejectionCode

SEARCH_SCHEMA = 1
SEARCH_FILE = "search.json"
PICTURE_FILE = "pareto.png"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of an attempt for one profile.

    Attributes:
        kept: The profile may have it.
        code: The gate at which it fell, if it fell.
        reason: In words; of what was kept, what one should know about it.
    """

    profile: str
    kept: bool
    code: RejectionCode | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedAnswers:
    """Samples of one kind that are answered otherwise than by the float model.

    Attributes:
        label: The right answer; -1 without labels.
    """

    label: int
    float_answer: int
    answer: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One candidate that was tried.

    Attributes:
        round: In which round of the search, from 1.
        sha256: Of the model; empty if none was made.
        same_as: The attempt that had made the very same bytes before; empty if none had.
        quality: On the whole evaluation set; ``None`` if it was not evaluated, or not to the end.
        samples_seen: Evaluated before it was certain to fall.
        least_loss: What it loses at least, in share; exactly, if all samples were seen.
        seconds: Of computing, 0 if it was known from before.
        layers: Errors by layer, worst first.
        edge_tpu: What the Edge TPU's compiler said, where the profiles have one.
    """

    name: str
    recipe: Recipe
    round: int
    verdicts: tuple[Verdict, ...]
    sha256: str = ""
    size_bytes: int = 0
    compressed_bytes: int = 0
    arena_bytes: int | None = None
    same_as: str = ""
    quality: Quality | None = None
    samples_seen: int = 0
    least_loss: float | None = None
    layers: tuple[LayerError, ...] = ()
    changed: tuple[ChangedAnswers, ...] = ()
    edge_tpu: EdgeTpuFacts | None = None

    @property
    def fell_at(self) -> Mapping[str, RejectionCode]:
        """Profile -> gate."""
        return {verdict.profile: verdict.code for verdict in self.verdicts if verdict.code is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class NotTried:
    """What was left out, and why."""

    name: str
    profiles: tuple[str, ...] = ()
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRecord:
    """The content of ``search.json``.

    Attributes:
        searched: Candidates were composed; otherwise only named recipes were tried.
        max_accuracy_drop: In share, absolute.
        strict: The whole confidence interval had to be within.
        samples: Of the evaluation set.
        finished: The budget did not end it.
        computed: Pieces of work that were done.
        remembered: Pieces of work that the cache knew.
        notes: For a person, each said once.
        float_layers: (format -> layers that hurt most alone, worst first), where it was measured.
    """

    schema: int = SEARCH_SCHEMA
    model: str
    searched: bool
    max_accuracy_drop: float
    strict: bool = False
    samples: int
    float_accuracy: float | None
    finished: bool = True
    computed: int = 0
    remembered: int = 0
    rounds: int = 0
    attempts: tuple[Attempt, ...]
    not_tried: tuple[NotTried, ...] = ()
    notes: tuple[str, ...] = ()
    sensitivity: Mapping[str, tuple[LayerError, ...]] = field(default_factory=dict)
