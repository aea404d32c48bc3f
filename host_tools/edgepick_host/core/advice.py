"""What to try next after a search, from what it found. Rules, each with the finding it rests on. Pure."""

from collections.abc import Iterator

from edgepick_host.core.search_record import Attempt, SearchRecord
from edgepick_host.core.variants import RejectionCode

AGAIN = "edgepick compress … "
"""Stands for the same command again."""

FEW_SAMPLES = 1000
BAD_SQNR_DB = 10.0
"""Noise of a third of the signal's amplitude: a layer below this is where int8 goes wrong."""


def advice(record: SearchRecord, attempt: Attempt | None = None) -> tuple[str, ...]:
    """Return sentences, the most useful first; about one attempt, or about the whole search."""
    attempts = record.attempts if attempt is None else (attempt,)
    found = (
        *_unfinished(record),
        *_accuracy(record, attempts),
        *_budget(attempts),
        *_edge_tpu(attempts),
        *_sets(record),
    )
    return tuple(dict.fromkeys(found))


def _unfinished(record: SearchRecord) -> Iterator[str]:
    if not record.finished:
        yield f"The budget ended the search: run the same command again, it goes on where it was ({AGAIN}--budget 10m)."
    if not record.searched:
        yield f"Only named recipes were tried: search with the same command without --recipe and --quick ({AGAIN})."


def _accuracy(record: SearchRecord, attempts: tuple[Attempt, ...]) -> Iterator[str]:
    lost = [a for a in attempts if RejectionCode.ACCURACY in a.fell_at.values()]
    if not lost:
        return
    bad = sorted((error for a in lost for error in a.layers if error.sqnr_db < BAD_SQNR_DB), key=lambda e: e.sqnr_db)
    if bad:
        names = ", ".join(dict.fromkeys(error.layer for error in bad[:3]))
        yield (
            f"Noise is worst in {names}: keep the layers that hurt most in float where the device allows it "
            f"({AGAIN}--recipe static_wi8_ai8_float_io.mse.bias.keep{min(3, len(bad))})."
        )
    if not any(a.recipe.training for a in record.attempts):
        yield f"Training wins back what post-training means cannot ({AGAIN}--task task.py)."
    losses = [a.least_loss for a in lost if a.least_loss is not None]
    if losses:
        enough = (int(min(losses) * 1000) + 1) / 10
        yield f"The nearest miss loses {min(losses) * 100:.2f} points or more ({AGAIN}--max-accuracy-drop {enough}%)."


def _budget(attempts: tuple[Attempt, ...]) -> Iterator[str]:
    over = [a for a in attempts if RejectionCode.BUDGET in a.fell_at.values()]
    if over:
        yield (
            "Some exceed a budget of their profile: make the network itself smaller "
            f"({AGAIN}--task task.py tries thinner and distilled networks), or give a profile of your own more."
        )


def _edge_tpu(attempts: tuple[Attempt, ...]) -> Iterator[str]:
    facts = [attempt.edge_tpu for attempt in attempts if attempt.edge_tpu is not None]
    left = sorted({line.name for each in facts for line in each.operators if not line.mapped})
    if left:
        yield f"The Edge TPU leaves {', '.join(left)} to the CPU: replace them in the network before the export."
    if any(each.off_chip_bytes for each in facts):
        yield (
            "Parameters travel to the Edge TPU at every inference: a smaller network stays on the chip "
            f"({AGAIN}--task task.py)."
        )


def _sets(record: SearchRecord) -> Iterator[str]:
    if any("too small to tell" in note for note in record.notes):
        needed = max(FEW_SAMPLES, 2 * record.samples)
        yield f"Evaluate on more samples, {needed:,} or so: the intervals are wider than the tolerance."
