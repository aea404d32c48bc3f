"""Gives profiles with an Edge TPU the compiled file of each variant that they keep, or says why there is none.

A compiled variant stands beside the one that it was made from, which stays for the other profiles. No CPU runs it, so
its answers are those of the file that it was compiled from; a device tests them again before it believes in them.
"""

import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgepick_host.compress.bench import Bench
from edgepick_host.compress.cache import Cache, key_of_work
from edgepick_host.compress.edgetpu import (
    NOT_THERE,
    TIMEOUT_SECONDS,
    Compilation,
    compile_model,
    compiler_version,
    find_compiler,
)
from edgepick_host.compress.laboratory import Laboratory
from edgepick_host.compress.request import Say
from edgepick_host.compress.trial import Outcome
from edgepick_host.compress.work import COMPRESSION_LEVEL
from edgepick_host.core.edge_tpu import EdgeTpuFacts
from edgepick_host.core.search_record import Attempt, Verdict
from edgepick_host.core.variants import Rejection, RejectionCode, Variant
from edgepick_profiles.schema import OperatorSet
from edgepick_wire.codec import decode_document, encode_document
from edgepick_wire.errors import WireError
from edgepick_wire.ids import digest_of

SUFFIX = "-edgetpu"
FILE_NAME = "model_edgetpu.tflite"
UNSEEN = "not compiled: operators checked against a table; edgetpu_compiler has not seen it"
EVALUATED = "on the uncompiled file: no CPU runs a compiled one"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Compiler:
    """The program, its version, and what it did before."""

    path: Path
    version: str
    cache: Cache
    deadline: float | None

    def run(self, model: bytes) -> Compilation:
        key = key_of_work("edgetpu", {"model": digest_of(model), "compiler": self.version})
        known = _decoded(self.cache.read(key)) if self.version else None
        if known is not None:
            return known
        left = TIMEOUT_SECONDS if self.deadline is None else min(TIMEOUT_SECONDS, self.deadline - time.monotonic())
        if left <= 0:
            return Compilation(facts=EdgeTpuFacts(not_compiled="the budget was spent"), lasting=False)
        found = compile_model(model, self.path, seconds=left)
        if found.lasting and self.version:
            self.cache.write(key, _encoded(found))
        return found


def compile_for_edge_tpus(outcome: Outcome, bench: Bench, laboratory: Laboratory, say: Say) -> None:
    """Replace, in the outcome, what Edge TPUs are offered by its compiled form; mark what has none."""
    offered = [variant for variant in outcome.variants.values() if edge_tpu_profiles(variant, bench)]
    path = find_compiler() if offered else None
    if path is None:
        for variant in offered:
            _mark(outcome, variant, edge_tpu_profiles(variant, bench), EdgeTpuFacts(not_compiled=NOT_THERE))
        return
    compiler = _Compiler(
        path=path, version=compiler_version(path), cache=laboratory.cache, deadline=laboratory.deadline
    )
    for number, variant in enumerate(offered, 1):
        say(f"compiling {variant.name} for the Edge TPU: {number} of {len(offered)}")
        found = compiler.run(outcome.files[variant.sha256])
        takers = edge_tpu_profiles(variant, bench)
        if found.model:
            _replace(outcome, bench, variant, takers, found)
        else:
            _mark(outcome, variant, takers, found.facts)


def edge_tpu_profiles(variant: Variant, bench: Bench) -> tuple[str, ...]:
    """Return the profiles with an Edge TPU that a variant is offered to."""
    return tuple(name for name in variant.profiles if bench.profile(name).rules.operators is OperatorSet.EDGE_TPU)


def _mark(outcome: Outcome, variant: Variant, takers: Sequence[str], facts: EdgeTpuFacts) -> None:
    """Say that profiles get the uncompiled file, and why."""
    facts = replace(facts, profiles=tuple(takers))
    said = UNSEEN if facts.not_compiled == NOT_THERE else facts.text
    provenance = {**variant.provenance, "edgetpu": said}
    outcome.variants[variant.sha256] = replace(variant, edge_tpu=facts, provenance=provenance)
    attempt = outcome.attempts[variant.name]
    outcome.attempts[variant.name] = replace(_remarked(attempt, takers, facts.text), edge_tpu=facts)


def _replace(outcome: Outcome, bench: Bench, variant: Variant, takers: Sequence[str], found: Compilation) -> None:
    """Offer the compiled file to the profiles that it fits, and the uncompiled one to none of them any more."""
    size, fitting = len(found.model), []
    for name in takers:
        limit = bench.profile(name).budgets.model_bytes
        if limit is not None and size > limit:
            reason = f"compiled for the Edge TPU, it has {size:,} bytes; the profile's budget is {limit:,}"
            _refuse(outcome, variant.name, name, reason)
        else:
            fitting.append(name)
    _withdraw(outcome, variant, takers)
    attempt = replace(outcome.attempts[variant.name], edge_tpu=found.facts)
    compiled = _compiled(variant, fitting, found)
    outcome.attempts[variant.name] = _remarked(attempt, fitting, f"offered as {compiled.name}")
    if fitting:
        outcome.variants[compiled.sha256] = compiled
        outcome.files[compiled.sha256] = found.model
        outcome.attempts[compiled.name] = _attempt(attempt, compiled)


def _compiled(variant: Variant, takers: Sequence[str], found: Compilation) -> Variant:
    facts, name = replace(found.facts, profiles=tuple(takers)), variant.name + SUFFIX
    provenance = {
        **variant.provenance,
        "edgetpu": facts.text,
        "edgetpu_compiler": facts.compiler or "unknown",
        "edgetpu_compiled_from": facts.compiled_from,
        "evaluation": EVALUATED,
    }
    return replace(
        variant,
        name=name,
        folder=name,
        file=FILE_NAME,
        sha256=digest_of(found.model),
        size_bytes=len(found.model),
        compressed_bytes=len(zlib.compress(found.model, COMPRESSION_LEVEL)),
        profiles=facts.profiles,
        arena_bytes=None,
        edge_tpu=facts,
        provenance=provenance,
    )


def _withdraw(outcome: Outcome, variant: Variant, takers: Sequence[str]) -> None:
    left = tuple(name for name in variant.profiles if name not in takers)
    if left:
        outcome.variants[variant.sha256] = replace(variant, profiles=left)
    else:
        del outcome.variants[variant.sha256]


def _refuse(outcome: Outcome, candidate: str, profile: str, reason: str) -> None:
    code = RejectionCode.BUDGET
    outcome.rejections.append(Rejection(recipe=candidate, profile=profile, code=code, reason=reason))
    fallen = Verdict(profile=profile, kept=False, code=code, reason=reason)
    attempt = outcome.attempts[candidate]
    verdicts = tuple(fallen if verdict.profile == profile else verdict for verdict in attempt.verdicts)
    outcome.attempts[candidate] = replace(attempt, verdicts=verdicts)


def _remarked(attempt: Attempt, takers: Sequence[str], remark: str) -> Attempt:
    """Return the attempt with a remark on what was kept for some profiles."""
    verdicts = tuple(
        replace(verdict, reason="; ".join(filter(None, (verdict.reason, remark))))
        if verdict.kept and verdict.profile in takers
        else verdict
        for verdict in attempt.verdicts
    )
    return replace(attempt, verdicts=verdicts)


def _attempt(attempt: Attempt, compiled: Variant) -> Attempt:
    assert compiled.edge_tpu is not None
    takers = compiled.profiles
    verdicts = tuple(verdict for verdict in attempt.verdicts if verdict.kept and verdict.profile in takers)
    return _remarked(
        replace(
            attempt,
            name=compiled.name,
            verdicts=verdicts,
            sha256=compiled.sha256,
            size_bytes=compiled.size_bytes,
            compressed_bytes=compiled.compressed_bytes,
            arena_bytes=None,
            edge_tpu=compiled.edge_tpu,
        ),
        takers,
        f"{compiled.edge_tpu.text}; accuracy {EVALUATED}",
    )


def _encoded(found: Compilation) -> bytes:
    facts = encode_document(found.facts)
    return len(facts).to_bytes(4, "big") + facts + found.model


def _decoded(content: bytes | None) -> Compilation | None:
    if content is None:
        return None
    end = 4 + int.from_bytes(content[:4], "big")
    try:
        return Compilation(model=content[end:], facts=decode_document(EdgeTpuFacts, content[4:end]))
    except WireError:
        return None
