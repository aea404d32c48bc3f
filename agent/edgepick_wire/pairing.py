"""Paired comparison on one device: which of two variants runs first, and what its blocks said.

A *quad* is four blocks of inferences, two of each variant: ABBA or BAAB, A being what runs there now. Any drift that
is steady over a quad cancels; what does not cancel points either way with equal probability, because a keyed coin
picks the order. Host and device compute the same coin, so that the host can check that it was thrown.
"""

from dataclasses import dataclass

from edgepick_wire.enums import StrEnum
from edgepick_wire.errors import MalformedError
from edgepick_wire.ids import check_digest

BLOCKS = 4
MAX_QUADS = 512
MAX_BLOCK_RUNS = 100_000


class Order(StrEnum):
    """Which variant ran in which block of a quad; A is the incumbent, B the candidate."""

    ABBA = "abba"
    BAAB = "baab"


def quad_order(key: str, device: str, index: int) -> Order:
    """Return the order of quad ``index`` on ``device``: a fair coin to anyone who does not know ``key``.

    It is the lowest bit of the first byte of HMAC-SHA256 (RFC 2104) over ``device``, a zero byte and the index in
    decimal digits, under the UTF-8 bytes of ``key``.
    """
    import hashlib  # both load OpenSSL; a runner that serves does without
    import hmac

    thrown = hmac.new(key.encode(), f"{device}\0{index}".encode(), hashlib.sha256).digest()
    return Order.BAAB if thrown[0] & 1 else Order.ABBA


CAPABILITY = "pairs"
"""What an agent's birth names if it carries out a :class:`PairOrder`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairOrder:
    """An order to measure a candidate beside what runs, in quads; one that does not know it measures it alone.

    Attributes:
        against: Manifest digest of A, which must be installed; the candidate itself for an A/A run.
        key: Key of the coin.
        quads: How many.
        block_runs: Inferences to time per block.
        dropped_runs: Inferences before them in each block, which are not timed.
    """

    against: str
    key: str
    quads: int = 12
    block_runs: int = 20
    dropped_runs: int = 3

    def __post_init__(self) -> None:
        """Refuse an order that compares nothing."""
        check_digest(self.against)
        if not (1 <= self.quads <= MAX_QUADS and 1 <= self.block_runs <= MAX_BLOCK_RUNS and self.dropped_runs >= 0):
            raise MalformedError(f"a pair order needs 1 to {MAX_QUADS} quads and 1 to {MAX_BLOCK_RUNS} runs per block")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quad:
    """Four blocks in the order in which they ran.

    Attributes:
        index: Which throw of the coin, from 0.
        order: Which variant ran in which block.
        latency_ns: Median latency of each block's inferences, its first ones dropped.
        energy_uj: Energy per inference of each block, net of idle power; empty where it cannot be measured.
        invalid: Why the quad may not be used, decided without a look at its figures (throttled, disturbed);
            ``None`` if it may.
    """

    index: int
    order: Order
    latency_ns: tuple[float, ...]
    energy_uj: tuple[float, ...] = ()
    invalid: str | None = None

    def __post_init__(self) -> None:
        """Refuse a quad that has not four blocks."""
        if not 0 <= self.index < MAX_QUADS:
            raise MalformedError(f"quad {self.index}: the index is 0 to {MAX_QUADS - 1}")
        if self.invalid is None and len(self.latency_ns) != BLOCKS:
            raise MalformedError(f"quad {self.index}: {len(self.latency_ns)} blocks, a quad has {BLOCKS}")
        if len(self.energy_uj) not in (0, BLOCKS):
            raise MalformedError(f"quad {self.index}: energy of {len(self.energy_uj)} blocks, expected 0 or {BLOCKS}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedRun:
    """A candidate beside what runs on the device, quad by quad.

    Attributes:
        against: Manifest digest of A, what ran there; the candidate itself in an A/A run.
        key: Key of the coin.
        block_runs: Inferences timed per block.
        dropped_runs: Inferences before them in each block, which were not timed.
        quads: In the order of their index.
    """

    against: str
    key: str
    block_runs: int
    dropped_runs: int
    quads: tuple[Quad, ...]

    def __post_init__(self) -> None:
        """Refuse a run against something that is no manifest, or with a quad counted twice."""
        check_digest(self.against)
        if len({quad.index for quad in self.quads}) != len(self.quads):
            raise MalformedError("a quad is counted twice")
