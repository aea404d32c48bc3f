"""Attacks on chunks: mixed, endless, cut short, flipped, missing."""

import os
from collections.abc import Callable

from edgepick_host.conformance.bench import Bench
from edgepick_host.conformance.documents import Variant
from edgepick_host.conformance.verdict import Case
from edgepick_wire import topics
from edgepick_wire.limits import MAX_PAYLOAD_BYTES
from edgepick_wire.messages import IncidentCode

Spoil = Callable[[Bench, Variant], dict[str, bytes]]
"""Says which chunks hold what instead of their bytes."""

FLOOD = 200
"""Messages on one chunk's topic while it is being fetched."""


def _spoiled(spoil: Spoil) -> Callable[[Bench], str]:
    """Return a case: bad bytes under some chunks' names, then the right ones."""

    def run(bench: Bench) -> str:
        bench.start()
        variant = bench.variant()
        bad = spoil(bench, variant)
        bench.publish_chunks(variant, without=tuple(bad))
        for digest, data in bad.items():
            bench.put_chunk(digest, data)
        bench.publish_manifest(variant)
        bench.follows(bench.want(variant))
        said = bench.until(lambda: _complaint(bench, variant), "the agent reports `chunk-corrupt`")
        for digest in bad:
            bench.put_chunk(digest, variant.chunks[digest])
        bench.confirms(variant)
        return f"reported: {said}; completed with the right bytes"

    return run


def _complaint(bench: Bench, variant: Variant) -> str | None:
    bench.never_ran(variant.digest)
    found = bench.incidents(IncidentCode.CHUNK_CORRUPT)
    return found[-1].detail if found else None


def _flipped(_bench: Bench, variant: Variant) -> dict[str, bytes]:
    data = variant.chunks[variant.padding[1]]
    return {variant.padding[1]: bytes([data[0] ^ 1]) + data[1:]}


def _cut_short(_bench: Bench, variant: Variant) -> dict[str, bytes]:
    return {variant.padding[1]: variant.chunks[variant.padding[1]][:-1]}


def _lengthened(_bench: Bench, variant: Variant) -> dict[str, bytes]:
    """Let the last chunk go on beyond the end of the file."""
    return {variant.padding[-1]: variant.chunks[variant.padding[-1]] + os.urandom(5000)}


def _oversized(_bench: Bench, variant: Variant) -> dict[str, bytes]:
    return {variant.padding[0]: variant.chunks[variant.padding[0]] + os.urandom(2 * MAX_PAYLOAD_BYTES)}


def _mixed(bench: Bench, variant: Variant) -> dict[str, bytes]:
    """Give some chunks the bytes of another good variant's."""
    other = bench.publish(bench.variant())
    return {variant.padding[i]: other.chunks[other.padding[i]] for i in (0, 3)}


def _swapped(_bench: Bench, variant: Variant) -> dict[str, bytes]:
    """Exchange two chunks of one file."""
    first, second = variant.padding[:2]
    return {first: variant.chunks[second], second: variant.chunks[first]}


def _bad_index(_bench: Bench, variant: Variant) -> dict[str, bytes]:
    """Have the index list the chunks in another order."""
    entry = next(f for f in variant.content.files if f.name == "padding.bin")
    name = entry.index[0]
    data = variant.chunks[name]
    return {name: data[32:64] + data[:32] + data[64:]}


def _endless(bench: Bench) -> str:
    """Never stop sending on the topic of a chunk that is being fetched."""
    bench.start()
    variant = bench.variant()
    bench.publish_chunks(variant, without=variant.padding[:1])
    bench.publish_manifest(variant)
    bench.follows(bench.want(variant))
    topic = topics.chunk(bench.fleet, variant.padding[0])
    for _ in range(FLOOD):
        bench.host.put(topic, os.urandom(len(variant.chunks[variant.padding[0]])), retain=False)
    bench.never_ran(variant.digest)
    bench.put_chunk(variant.padding[0], variant.chunks[variant.padding[0]])
    bench.confirms(variant)
    return f"completed after {FLOOD} wrong messages on the topic of one chunk"


def _missing(bench: Bench) -> str:
    bench.start()
    variant = bench.variant()
    absent = variant.padding[1:3]
    bench.publish_chunks(variant, without=absent)
    bench.publish_manifest(variant)
    bench.follows(bench.want(variant))
    bench.restart()
    bench.never_ran(variant.digest)
    for digest in absent:
        bench.put_chunk(digest, variant.chunks[digest])
    bench.confirms(variant)
    return "waited over a restart, and completed as soon as the missing chunks came"


def _late_manifest(bench: Bench) -> str:
    """Order what is published only later."""
    bench.start()
    variant = bench.variant()
    bench.follows(bench.want(variant))
    bench.publish(variant)
    bench.confirms(variant)
    return "waited for the manifest, and installed it when it came"


CORRUPT = "reports `chunk-corrupt`, writes none of it, completes once the right bytes are there"


def _case(name: str, attack: str, spoil: Spoil) -> Case:
    return Case(name=name, attack=attack, expected=CORRUPT, run=_spoiled(spoil))


CASES = (
    _case("chunk-flipped-bit", "a chunk with one bit flipped", _flipped),
    _case("chunk-truncated", "a chunk without its last byte", _cut_short),
    _case("chunk-lengthened", "a last chunk that goes on beyond the file", _lengthened),
    _case("chunk-oversized", "a chunk larger than any message may be", _oversized),
    _case("chunk-mixed", "chunks of another good bundle under this one's names", _mixed),
    _case("chunk-swapped", "two chunks of one file exchanged", _swapped),
    _case("chunk-bad-index", "an index that lists the chunks in another order", _bad_index),
    Case(
        name="chunk-endless",
        attack="messages without end on the topic of one chunk",
        expected="takes none of them, completes with the right one",
        run=_endless,
    ),
    Case(
        name="chunk-missing",
        attack="two chunks are nowhere; the agent is restarted; then they come",
        expected="waits, and completes when they come",
        run=_missing,
    ),
    Case(
        name="manifest-late",
        attack="an order for a manifest that is published only later",
        expected="waits, and installs it when it comes",
        run=_late_manifest,
    ),
)
