"""Whether a variant may be installed here: verified before parsing, then judged by facts."""

from dataclasses import dataclass

from edgepick_wire import envelope
from edgepick_wire import manifest as wire_manifest
from edgepick_wire.envelope import DocumentType, VerifySignature
from edgepick_wire.errors import SignatureError, WireError
from edgepick_wire.manifest import KNOWN_REQUIREMENTS, MANIFEST_SCHEMA, Manifest, RuntimeChoice
from edgepick_wire.messages import Refusal, RefusalCode, RuntimeAvailable
from edgepick_wire.trust import RootDocument

SPACE_MARGIN_BYTES = 4 * 1024 * 1024
"""Left free beside a download: state, outbox and results need room to say what went wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """Whose signatures count, and how one is checked."""

    root: RootDocument
    check: VerifySignature


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a manifest is judged by.

    Attributes:
        security_epoch: Highest epoch of a confirmed variant.
        runtimes: What the device can start.
        allowed: Names of runtimes that the configuration allows; empty allows all.
        algorithms: Encodings that need not keep it from being installed.
        missing_bytes: What is still to be stored of the bundle.
        free_bytes: Space left; ``None`` leaves the question for later.
    """

    fleet: str
    profile: str
    security_epoch: int
    runtimes: tuple[RuntimeAvailable, ...]
    allowed: tuple[str, ...] = ()
    algorithms: frozenset[str] = frozenset()
    missing_bytes: int = 0
    free_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """A manifest that may be installed, and the ways to run it that exist here, preferred first."""

    runtimes: tuple[RuntimeChoice, ...]


def verified_manifest(raw: bytes, digest: str, trust: Trust) -> Manifest | Refusal:
    """Return the manifest in a signed document once its signature and its name are known to be right."""
    try:
        document = envelope.unpack(raw)
        payload = envelope.verify(document, DocumentType.MANIFEST, trust.root.release, trust.check)
    except SignatureError as error:
        return refuse(RefusalCode.BAD_SIGNATURE, f"manifest {digest[:12]}: {error}", error.hint)
    except WireError as error:
        return refuse(RefusalCode.MALFORMED, f"manifest {digest[:12]}: {error}", error.hint)
    if wire_manifest.manifest_digest(payload) != digest:
        return refuse(
            RefusalCode.DIGEST_MISMATCH,
            f"manifest {digest[:12]}: the document under this name has another digest",
            "Publish the bundle again; something replaced its manifest.",
        )
    return _parsed(payload, digest)


def _parsed(payload: bytes, digest: str) -> Manifest | Refusal:
    try:
        return wire_manifest.parse_manifest(payload)
    except WireError as error:
        return refuse(RefusalCode.MALFORMED, f"manifest {digest[:12]}: {error}", error.hint)


def admit(manifest: Manifest, facts: Facts) -> Admitted | Refusal:
    """Return how the variant may run here, or the first reason why it may not."""
    choices = runnable(manifest, facts)
    return (
        _known(manifest, facts)
        or _addressed(manifest, facts)
        or _fresh(manifest, facts)
        or _executable(manifest, facts, choices)
        or _fitting(manifest, facts)
        or Admitted(runtimes=choices)
    )


def _known(manifest: Manifest, facts: Facts) -> Refusal | None:
    unknown = sorted(set(manifest.requires) - KNOWN_REQUIREMENTS - facts.algorithms)
    if manifest.schema > MANIFEST_SCHEMA:
        unknown.append(f"manifest schema {manifest.schema}")
    if not unknown:
        return None
    return refuse(
        RefusalCode.UNKNOWN_REQUIREMENT,
        f"{label_of(manifest)} requires {', '.join(unknown)}, which this agent does not know",
        _missing_hint(unknown),
    )


def _missing_hint(unknown: list[str]) -> str:
    if set(unknown) <= wire_manifest.ALGORITHMS:
        return "Install edgepick[agent] with its packages for decoding, or publish it with --plain."
    return "Update edgepick-agent on this device, or publish a variant that does not require it."


def _addressed(manifest: Manifest, facts: Facts) -> Refusal | None:
    if manifest.fleet != facts.fleet:
        return refuse(
            RefusalCode.WRONG_FLEET,
            f"{label_of(manifest)} is for fleet {manifest.fleet!r}; this device belongs to {facts.fleet!r}",
            "Publish it for this fleet.",
        )
    if facts.profile not in manifest.profiles:
        return refuse(
            RefusalCode.WRONG_PROFILE,
            f"{label_of(manifest)} is for {', '.join(manifest.profiles)}; this device is a {facts.profile!r}",
            "Assign a variant that was compressed for this profile.",
        )
    return None


def _fresh(manifest: Manifest, facts: Facts) -> Refusal | None:
    if manifest.security_epoch >= facts.security_epoch:
        return None
    return refuse(
        RefusalCode.LOWER_EPOCH,
        f"{label_of(manifest)} has security epoch {manifest.security_epoch}; this device accepts none below "
        f"{facts.security_epoch}",
        "Publish the old model again with the fleet's present security epoch.",
    )


def runnable(manifest: Manifest, facts: Facts) -> tuple[RuntimeChoice, ...]:
    """Return the ways to run a variant that exist here and are allowed, preferred first."""
    there = {r.name for r in facts.runtimes if not facts.allowed or r.name in facts.allowed}
    return tuple(choice for choice in manifest.runtimes if choice.name.value in there)


def _executable(manifest: Manifest, facts: Facts, choices: tuple[RuntimeChoice, ...]) -> Refusal | None:
    if choices:
        return None
    named = ", ".join(choice.name.value for choice in manifest.runtimes)
    there = ", ".join(runtime.name for runtime in facts.runtimes) or "none"
    return refuse(
        RefusalCode.NO_RUNTIME,
        f"{label_of(manifest)} runs on {named}; this device has {there}",
        "Install the runtime (`edgepick-agent doctor` names the pip line), or allow it in [runner] runtimes.",
    )


def _fitting(manifest: Manifest, facts: Facts) -> Refusal | None:
    needed = facts.missing_bytes + SPACE_MARGIN_BYTES if facts.missing_bytes else 0
    if facts.free_bytes is None or facts.free_bytes >= needed:
        return None
    return no_space(label_of(manifest), needed, facts.free_bytes)


def no_space(label: str, needed: int, free: int | None = None) -> Refusal:
    """Return the refusal of something that does not fit, saying how much it needs."""
    left = "the disk filled up meanwhile" if free is None else f"{free} are free"
    return refuse(
        RefusalCode.NO_SPACE,
        f"{label} needs {needed} bytes in the state directory; {left}",
        f"Free at least {max(1, needed - (free or 0))} bytes there; the device tries again later by itself.",
    )


def label_of(manifest: Manifest) -> str:
    """Return how people call a variant: model, version and variant name."""
    return f"{manifest.model} {manifest.version} {manifest.variant}"


def refuse(code: RefusalCode, detail: str, hint: str) -> Refusal:
    """Return a refusal whose texts fit into a message."""
    return Refusal(code=code, detail=detail[:2000], hint=hint[:2000])
