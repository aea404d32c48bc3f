"""``edgepick explain``: what a search tried, what fell and why, where accuracy went, what to try next."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from edgepick_host import app
from edgepick_host.cli import options
from edgepick_host.cli.render import console, print_json, table
from edgepick_host.core.advice import advice
from edgepick_host.core.search_record import Attempt, SearchRecord, Verdict
from edgepick_host.errors import InputFileError

SHOWN_LAYERS = 12
SHOWN_CONFUSIONS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What ``--json`` prints: the record, or one attempt of it, and what to try next."""

    search: SearchRecord | None = None
    attempt: Attempt | None = None
    advice: tuple[str, ...]


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.argument("variant", required=False)
@options.as_json
def explain(*, folder: Path, variant: str | None, as_json: bool) -> None:
    """Explain what `edgepick compress` wrote to DIR: the whole search, or one VARIANT that was kept or rejected."""
    record = app.read_search(folder)
    attempt = None if variant is None else find_attempt(record, variant)
    tips = advice(record, attempt)
    if as_json:
        print_json(Explanation(search=record if attempt is None else None, attempt=attempt, advice=tips))
        return
    screen = console()
    if attempt is None:
        _print_search(screen, record)
    else:
        _print_attempt(screen, attempt)
    _print_advice(screen, tips)


def find_attempt(record: SearchRecord, name: str) -> Attempt:
    """Return the attempt of that name.

    Raises:
        InputFileError: Nothing of that name was tried; what was is named.
    """
    found = next((attempt for attempt in record.attempts if attempt.name == name), None)
    if found is not None:
        return found
    missed = next((each for each in record.not_tried if each.name == name), None)
    if missed is not None:
        raise InputFileError(f"{name} was not tried: {missed.reason}")
    names = ", ".join(attempt.name for attempt in record.attempts)
    raise InputFileError(f"{name} was not tried", hint=f"Tried were: {names}")


def _print_search(screen: Console, record: SearchRecord) -> None:
    work = f"{record.computed} pieces of work done, {record.remembered} known from before"
    screen.print(f"{record.model}: {len(record.attempts)} candidates in {record.rounds} round(s); {work}")
    accuracy = "-" if record.float_accuracy is None else f"{record.float_accuracy:.2%}"
    tolerance = f"tolerated: {record.max_accuracy_drop * 100:.2f} points" + (" (strict)" if record.strict else "")
    screen.print(f"float accuracy {accuracy} on {record.samples} samples; {tolerance}\n")
    screen.print(table(("round", "candidate", "bytes", "lost", "outcome"), [_row(a) for a in record.attempts]))
    if record.not_tried:
        screen.print("\nnot tried", style="bold")
    for missed in record.not_tried:
        screen.print(f"  {missed.name}: {missed.reason}", soft_wrap=True, markup=False)
    for name, layers in record.sensitivity.items():
        worst = ", ".join(error.layer for error in layers[:5])
        screen.print(f"\nlayers that hurt most when quantized alone ({name}): {worst}", soft_wrap=True, markup=False)
    for note in record.notes:
        screen.print(f"note: {note}", soft_wrap=True, markup=False)


def _row(attempt: Attempt) -> tuple[str, ...]:
    size = f"{attempt.size_bytes:,}" if attempt.size_bytes else "-"
    return (str(attempt.round), attempt.name, size, _lost(attempt), outcome_text(attempt))


def _lost(attempt: Attempt) -> str:
    if attempt.least_loss is None:
        return "-"
    return f"{'' if attempt.quality else '>= '}{attempt.least_loss * 100:.2f}"


def outcome_text(attempt: Attempt) -> str:
    """Return for how many profiles it was kept, and each reason why it was not."""
    kept = sum(verdict.kept for verdict in attempt.verdicts)
    parts = [f"kept for {kept}"] if kept else []
    parts += dict.fromkeys(verdict.reason for verdict in attempt.verdicts if verdict.kept and verdict.reason)
    if attempt.same_as:
        parts.append(f"same bytes as {attempt.same_as}")
    reasons = Counter((str(v.code.value), v.reason) for v in attempt.verdicts if v.code is not None)
    parts += [f"{code}: {reason}" + (f" ({n} profiles)" if n > 1 else "") for (code, reason), n in reasons.items()]
    return "; ".join(parts)


def _print_attempt(screen: Console, attempt: Attempt) -> None:
    screen.print(attempt.name, style="bold")
    for step in (*attempt.recipe.training, *attempt.recipe.steps):
        shown = ", ".join(f"{key}={' '.join(value.split())}" for key, value in step.parameters.items())
        screen.print(f"  {step.pass_name} {shown}", soft_wrap=True, markup=False)
    for verdict in attempt.verdicts:
        screen.print(f"  {verdict.profile}: {_verdict(verdict)}", soft_wrap=True, markup=False)
    _print_edge_tpu(screen, attempt)
    _print_quality(screen, attempt)
    _print_layers(screen, attempt)
    _print_changed(screen, attempt)


def _verdict(verdict: Verdict) -> str:
    word = "kept" if verdict.kept or verdict.code is None else verdict.code.value
    return f"{word}: {verdict.reason}" if verdict.reason else word


def _print_edge_tpu(screen: Console, attempt: Attempt) -> None:
    if attempt.edge_tpu is not None and attempt.edge_tpu.operators:
        rows = [(line.name, str(line.count), line.status) for line in attempt.edge_tpu.operators]
        screen.print()
        screen.print(table(("operator", "count", f"edgetpu_compiler {attempt.edge_tpu.compiler}"), rows))


def _print_quality(screen: Console, attempt: Attempt) -> None:
    quality = attempt.quality
    if quality is None:
        if attempt.least_loss is not None:
            seen = f"certain after {attempt.samples_seen} samples"
            screen.print(f"\nloses at least {attempt.least_loss * 100:.2f} points ({seen})")
        return
    if quality.accuracy is not None and quality.accuracy_drop is not None:
        screen.print(f"\naccuracy {quality.accuracy:.2%}, {quality.accuracy_drop * 100:+.2f} points lost")
    if quality.loss_low is not None and quality.loss_high is not None:
        interval = f"{quality.loss_low * 100:+.2f} to {quality.loss_high * 100:+.2f} points"
        p = "" if quality.mcnemar_p is None else f"; McNemar's p = {quality.mcnemar_p:.3f}"
        screen.print(f"loss with 95 % confidence: {interval}{p}")
    screen.print(f"agrees with the float model on {quality.agreement:.2%}, mean error {quality.mean_abs_error:.4g}")


def _print_layers(screen: Console, attempt: Attempt) -> None:
    if not attempt.layers:
        return
    rows = [(error.layer, error.operator, f"{error.sqnr_db:.1f}") for error in attempt.layers[:SHOWN_LAYERS]]
    screen.print(f"\nsignal to quantization noise, worst {len(rows)} of {len(attempt.layers)} layers", style="bold")
    screen.print(_layers_table(rows))


def _layers_table(rows: list[tuple[str, str, str]]) -> Table:
    found = Table(box=None, header_style="bold", pad_edge=False)
    found.add_column("layer", overflow="fold")
    found.add_column("operator")
    found.add_column("dB", justify="right")
    for row in rows:
        found.add_row(*row)
    return found


def _print_changed(screen: Console, attempt: Attempt) -> None:
    if not attempt.changed:
        return
    lost = Counter[int]()
    for each in attempt.changed:
        if each.label == each.float_answer:
            lost[each.label] += each.count
    if lost:
        worst = ", ".join(f"class {label}: {count}" for label, count in lost.most_common(SHOWN_CONFUSIONS))
        screen.print(f"\nwhere the accuracy went (samples lost by class): {worst}", soft_wrap=True)
    rows = [
        ("-" if c.label < 0 else str(c.label), str(c.float_answer), str(c.answer), str(c.count))
        for c in attempt.changed[:SHOWN_CONFUSIONS]
    ]
    screen.print("\nchanged answers", style="bold")
    screen.print(table(("label", "float", "now", "samples"), rows))


def _print_advice(screen: Console, tips: tuple[str, ...]) -> None:
    if tips:
        screen.print("\nwhat to try next", style="bold")
    for tip in tips:
        screen.print(f"  {tip}", soft_wrap=True, markup=False)
