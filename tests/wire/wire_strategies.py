"""Hypothesis strategies for every message of the protocol, derived from its fields.

What a field's type does not say (names, digests, parts that must fit each other) is said here.
"""

import dataclasses
import types
from collections.abc import Callable, Mapping
from enum import Enum
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

from edgepick_wire import envelope, limits, manifest, messages, metrics, pairing, shadow, trust
from edgepick_wire.errors import WireError

MODULES = (messages, metrics, pairing, shadow, manifest, trust, envelope)
NOT_JSON = {envelope.Envelope}
"""A header line and a payload, not one JSON value."""

names = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,20}", fullmatch=True)
digests = st.binary(min_size=32, max_size=32).map(bytes.hex)
SCALARS: dict[Any, st.SearchStrategy] = {
    str: st.text(max_size=8),
    int: st.integers(-(2**62), 2**62),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
}

FIELDS: dict[tuple[type, str], st.SearchStrategy] = {
    (messages.MeasureRequest, "id"): names,
    (messages.MeasureRequest, "manifest"): digests,
    (messages.Assignment, "model"): names,
    (messages.Assignment, "active"): st.none() | digests,
    (messages.Assignment, "max_bytes"): st.none() | st.integers(0, 2**62),
    (messages.MeasureRequest, "max_bytes"): st.none() | st.integers(0, 2**62),
    (messages.Birth, "profile"): names,
    (messages.InstallOutcome, "model"): names,
    (messages.Incident, "model"): st.none() | names,
    (messages.Desired, "sequence"): st.integers(1, 2**62),
    (metrics.MeasurePlan, "min_runs"): st.integers(1, 10**6),
    (metrics.MeasurePlan, "threads"): st.integers(1, 64),
    (metrics.MeasurePlan, "max_seconds"): st.floats(0.1, 1e6),
    (metrics.EnergySummary, "reason"): st.text(min_size=1, max_size=8),
    (pairing.PairOrder, "against"): digests,
    (pairing.PairOrder, "quads"): st.integers(1, pairing.MAX_QUADS),
    (pairing.PairOrder, "block_runs"): st.integers(1, pairing.MAX_BLOCK_RUNS),
    (pairing.PairOrder, "dropped_runs"): st.integers(0, 2**31),
    (pairing.PairedRun, "against"): digests,
    (shadow.ShadowRequest, "id"): names,
    (shadow.ShadowRequest, "manifest"): digests,
    (shadow.ShadowRequest, "permille"): st.integers(1, shadow.WHOLE),
    (shadow.ShadowRequest, "requests"): st.integers(1, shadow.MAX_REQUESTS),
    (shadow.ShadowRequest, "seconds"): st.floats(0.1, 1e6),
    (shadow.ShadowSummary, "against"): digests,
    (trust.RootDocument, "version"): st.integers(1, 2**31),
}


def message_classes() -> list[type]:
    """Return every public record of the wire package that travels as JSON."""
    found = {
        value
        for module in MODULES
        for name, value in vars(module).items()
        if dataclasses.is_dataclass(value) and not name.startswith("_")
    }
    return sorted(found - NOT_JSON, key=lambda kind: kind.__name__)


def attempt(action: Callable[..., Any], *arguments: Any) -> Any:
    """Return what ``action`` returns, or the WireError that it raises; any other error passes."""
    try:
        return action(*arguments)
    except WireError as error:
        return error


@cache
def instances(kind: type) -> st.SearchStrategy:
    """Return a strategy for valid instances of one message class."""
    return SPECIAL[kind]() if kind in SPECIAL else st.builds(kind, **fields(kind))


def fields(kind: type) -> dict[str, st.SearchStrategy]:
    hints = get_type_hints(kind)
    found = {f.name: FIELDS.get((kind, f.name)) for f in dataclasses.fields(kind)}
    return {name: of_hint(hints[name]) if strategy is None else strategy for name, strategy in found.items()}


def of_hint(hint: Any) -> st.SearchStrategy:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return st.none() | of_hint(next(a for a in arguments if a is not type(None)))
    if origin is tuple:
        return st.lists(of_hint(arguments[0]), max_size=2).map(tuple)
    if origin is not None and issubclass(origin, Mapping):
        return st.dictionaries(st.text(max_size=5), of_hint(arguments[1]), max_size=2)
    if dataclasses.is_dataclass(hint):
        return st.deferred(lambda: instances(hint))
    return st.sampled_from(list(hint)) if issubclass(hint, Enum) else SCALARS[hint]


@st.composite
def chunked(draw: st.DrawFn) -> dict[str, Any]:
    """Return the fields that a file and an encoded form of one have in common."""
    chunk_size = draw(st.integers(limits.MIN_CHUNK_BYTES, limits.MAX_CHUNK_BYTES))
    size = draw(st.integers(1, chunk_size * 200))
    index_size = manifest.chunk_count(size, chunk_size) * manifest.DIGEST_BYTES
    count = manifest.chunk_count(index_size, chunk_size)
    index = tuple(draw(st.lists(digests, min_size=count, max_size=count)))
    return {"size": size, "sha256": draw(digests), "chunk_size": chunk_size, "index": index}


@st.composite
def encodings(draw: st.DrawFn) -> manifest.Encoding:
    base = draw(st.none() | digests)
    return manifest.Encoding(
        algorithm=draw(names), base=base, window_bytes=draw(st.integers(0, 2**62)), **draw(chunked())
    )


@st.composite
def file_entries(draw: st.DrawFn, name: st.SearchStrategy[str] = names) -> manifest.FileEntry:
    others = tuple(draw(st.lists(encodings(), max_size=2)))
    return manifest.FileEntry(name=draw(name), encodings=others, **draw(chunked()))


@st.composite
def manifests(draw: st.DrawFn) -> manifest.Manifest:
    files = draw(st.lists(file_entries(), min_size=1, max_size=3, unique_by=lambda f: f.name))
    golden = draw(
        st.none() | st.builds(manifest.GoldenSpec, **{**fields(manifest.GoldenSpec), "file": st.just(files[-1].name)})
    )
    rest = {
        **fields(manifest.Manifest),
        **dict.fromkeys(("fleet", "model", "variant"), names),
        "security_epoch": st.integers(0, 2**31),
        "profiles": st.lists(names, min_size=1, max_size=2).map(tuple),
        "runtimes": st.lists(instances(manifest.RuntimeChoice), min_size=1, max_size=2).map(tuple),
        "model_file": st.just(files[0].name),
        "files": st.just(tuple(files)),
        "golden": st.just(golden),
        "sources": st.lists(names.map(lambda n: f"https://{n}.example/{{sha256}}"), max_size=4).map(tuple),
    }
    return draw(st.builds(manifest.Manifest, **rest))


@st.composite
def reports(draw: st.DrawFn) -> messages.Report:
    kind = draw(st.sampled_from(messages.ReportKind))
    parts = {
        messages.ReportKind.MEASUREMENT: ("measurement", messages.MeasuredVariant),
        messages.ReportKind.INSTALL: ("install", messages.InstallOutcome),
        messages.ReportKind.INCIDENT: ("incident", messages.Incident),
        messages.ReportKind.SHADOW: ("shadow", messages.ShadowedVariant),
    }
    empty = {name: st.none() for name, _ in parts.values()}
    name, part = parts[kind]
    rest = {**fields(messages.Report), **empty, "id": names, "kind": st.just(kind), name: instances(part)}
    return draw(st.builds(messages.Report, **rest))


@st.composite
def shadowed_variants(draw: st.DrawFn) -> messages.ShadowedVariant:
    seen = draw(st.booleans())
    rest = {
        **fields(messages.ShadowedVariant),
        "model": names,
        "summary": instances(shadow.ShadowSummary) if seen else st.none(),
        "refusal": st.none() | instances(messages.Refusal) if seen else instances(messages.Refusal),
    }
    return draw(st.builds(messages.ShadowedVariant, **rest))


@st.composite
def measured_variants(draw: st.DrawFn) -> messages.MeasuredVariant:
    measured = draw(st.booleans())
    rest = {
        **fields(messages.MeasuredVariant),
        "model": names,
        "measurement": instances(metrics.Measurement) if measured else st.none(),
        "refusal": st.none() if measured else instances(messages.Refusal),
    }
    return draw(st.builds(messages.MeasuredVariant, **rest))


@st.composite
def quads(draw: st.DrawFn) -> pairing.Quad:
    blocks = st.lists(SCALARS[float], min_size=pairing.BLOCKS, max_size=pairing.BLOCKS).map(tuple)
    index = st.integers(0, pairing.MAX_QUADS - 1)
    rest = {**fields(pairing.Quad), "index": index, "latency_ns": blocks, "energy_uj": st.just(()) | blocks}
    return draw(st.builds(pairing.Quad, **rest))


def paired_runs() -> st.SearchStrategy[pairing.PairedRun]:
    several = st.lists(quads(), max_size=3, unique_by=lambda q: q.index).map(tuple)
    return st.builds(pairing.PairedRun, **{**fields(pairing.PairedRun), "quads": several})


def roles() -> st.SearchStrategy[envelope.Role]:
    keys = st.lists(digests, min_size=1, max_size=3, unique=True)
    return keys.flatmap(
        lambda found: st.builds(envelope.Role, threshold=st.integers(1, len(found)), keys=st.just(tuple(found)))
    )


def desired_states() -> st.SearchStrategy[messages.Desired]:
    models = st.lists(instances(messages.Assignment), max_size=2, unique_by=lambda m: m.model).map(tuple)
    return st.builds(messages.Desired, **{**fields(messages.Desired), "models": models})


def reported_states() -> st.SearchStrategy[messages.Reported]:
    told = {name: st.none() | digests for name in ("active", "previous", "wanted")}
    state = st.builds(messages.ModelState, **{**fields(messages.ModelState), **told, "model": names})
    models = st.lists(state, max_size=2, unique_by=lambda m: m.model).map(tuple)
    return st.builds(messages.Reported, **{**fields(messages.Reported), "models": models})


SPECIAL = {
    manifest.Encoding: encodings,
    manifest.FileEntry: file_entries,
    manifest.Manifest: manifests,
    messages.Report: reports,
    messages.MeasuredVariant: measured_variants,
    messages.ShadowedVariant: shadowed_variants,
    pairing.Quad: quads,
    pairing.PairedRun: paired_runs,
    messages.Desired: desired_states,
    messages.Reported: reported_states,
    envelope.Role: roles,
}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
