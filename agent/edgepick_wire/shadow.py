"""Shadow mode: a candidate answers copies of a share of the requests that a device serves, and nobody sees its answers.

The device compares them with what was answered, and reports figures; no tensor of a request ever leaves it.
"""

from dataclasses import dataclass

from edgepick_wire.errors import MalformedError
from edgepick_wire.ids import check_digest, check_name
from edgepick_wire.metrics import LatencySummary

CAPABILITY = "shadow"
"""What an agent's birth names if it carries out a :class:`ShadowRequest`; another one does not see it."""
WHOLE = 1000
MAX_REQUESTS = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowRequest:
    """An order to run a variant as the shadow of what is active; carried out once per ``id``.

    Attributes:
        manifest: The candidate.
        permille: Share of the requests that it answers too, in thousandths.
        seconds: For how long, from the moment on at which it is ready.
        requests: After how many answers it ends before that.
    """

    id: str
    manifest: str
    permille: int = 100
    seconds: float = 3600.0
    requests: int = 10_000

    def __post_init__(self) -> None:
        """Refuse a manifest that is not a digest, and a shadow that compares nothing."""
        check_name("shadow request", self.id)
        check_digest(self.manifest)
        if not (1 <= self.permille <= WHOLE and 1 <= self.requests <= MAX_REQUESTS and self.seconds > 0):
            raise MalformedError(
                f"a shadow request needs 1 to {WHOLE} thousandths, 1 to {MAX_REQUESTS} requests and some time"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputDifference:
    """How far one output of the candidate is from the active variant's, in the float model's scale.

    Attributes:
        max_abs: Largest absolute difference of any number.
        mean_abs: Mean absolute difference over all numbers.
        rows: Answers of the form ``[rows, classes]`` with two classes or more; 0 for an output of another form.
        agreeing: How many of them have their largest number at the same place.
    """

    name: str
    max_abs: float
    mean_abs: float
    rows: int = 0
    agreeing: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowSummary:
    """What a shadow saw. Of the requests drawn, each is dropped, or ends in one of the four that follow.

    Attributes:
        against: Manifest digest of what served.
        seconds: For how long requests were drawn.
        seen: Requests answered by the active variant meanwhile.
        drawn: How many of them fell into the share.
        dropped: Drawn, but not handed over, because the candidate was behind.
        compared: Answered by both, in one shape, with finite numbers only.
        misshapen: The candidate's answer has another number of outputs or another shape.
        not_finite: Its answer holds NaN or infinity.
        failed: It gave none.
        outputs: Differences over what was compared, per output of the active variant.
        active: Latency of the active variant's inference, for those requests to which the candidate gave an answer.
        candidate: Its own, for the same requests; it runs with the lowest priority, on one CPU.
        ratio: Median over these requests of its latency divided by the active one's; ``None`` below five of them.
        slower: How many of these requests took the candidate longer.
    """

    against: str
    seconds: float
    seen: int = 0
    drawn: int = 0
    dropped: int = 0
    compared: int = 0
    misshapen: int = 0
    not_finite: int = 0
    failed: int = 0
    outputs: tuple[OutputDifference, ...] = ()
    active: LatencySummary | None = None
    candidate: LatencySummary | None = None
    ratio: float | None = None
    slower: int = 0

    def __post_init__(self) -> None:
        """Refuse a comparison with something that is no manifest."""
        check_digest(self.against)
