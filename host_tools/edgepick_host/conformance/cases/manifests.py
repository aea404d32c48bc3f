"""Attacks on manifests: for others, withdrawn, forged, swapped; and the self-test."""

from collections.abc import Callable
from dataclasses import replace

from edgepick_host.conformance.bench import Bench
from edgepick_host.conformance.documents import Variant, altered, golden_spec
from edgepick_host.conformance.interface import Capability
from edgepick_host.conformance.verdict import Case, CaseFailedError
from edgepick_wire import codec
from edgepick_wire.manifest import manifest_digest
from edgepick_wire.messages import Phase, RefusalCode

Forge = Callable[[Bench], tuple[Variant, bytes]]
"""Makes a variant and the bytes to retain under its manifest's name."""


def _refused(forge: Forge, *codes: RefusalCode) -> Callable[[Bench], str]:
    """Return a case: a variant that must not be installed, asked for by an order that is right."""

    def run(bench: Bench) -> str:
        bench.start()
        variant, raw = forge(bench)
        bench.publish_chunks(variant)
        bench.put_manifest(variant.digest, raw)
        bench.want(variant)
        found = bench.refuses_variant(variant, *codes)
        bench.obeys()
        bench.never_ran(variant.digest)
        assert found.refusal is not None
        return f"refused as `{found.refusal.code.value}`: {found.refusal.detail}"

    return run


def _changed(**changes: object) -> Forge:
    """Return the maker of a properly signed manifest with some fields changed."""

    def forge(bench: Bench) -> tuple[Variant, bytes]:
        variant = bench.variant(**changes)
        return variant, bench.signed_manifest(variant)

    return forge


def _by(role: str) -> Forge:
    def forge(bench: Bench) -> tuple[Variant, bytes]:
        variant = bench.variant()
        return variant, bench.signed_manifest(variant, key=getattr(bench.keys, role))

    return forge


def _altered(bench: Bench) -> tuple[Variant, bytes]:
    """Change a byte after signing, and name the manifest by what it has become."""
    variant = bench.variant()
    before, after = b'"version":"1"', b'"version":"2"'
    raw = altered(bench.signed_manifest(variant), before, after)
    return variant.with_manifest(variant.payload.replace(before, after, 1)), raw


def _swapped(bench: Bench) -> tuple[Variant, bytes]:
    """Retain one good manifest under the name of another."""
    meant, other = bench.variant(), bench.publish(bench.variant())
    return meant, bench.signed_manifest(other)


def _escaping(bench: Bench) -> tuple[Variant, bytes]:
    """Have a file lead out of the folder."""
    variant = bench.variant()
    payload = variant.payload.replace(b'"name":"padding.bin"', b'"name":"../../evil"', 1)
    variant = variant.with_manifest(payload)
    return variant, bench.signed_manifest(variant)


def _wrong_whole(bench: Bench) -> tuple[Variant, bytes]:
    """Have every chunk be right and the whole file another one."""
    variant = bench.variant()
    files = tuple(
        replace(f, sha256=manifest_digest(b"another file")) if f.name == "padding.bin" else f
        for f in variant.content.files
    )
    variant = variant.with_manifest(codec.encode(replace(variant.content, files=files)))
    return variant, bench.signed_manifest(variant)


def _lower_epoch(bench: Bench) -> str:
    bench.start()
    newer = bench.installs(security_epoch=2)
    older = bench.publish(bench.variant(security_epoch=1))
    bench.want(older)
    found = bench.refuses_variant(older, RefusalCode.LOWER_EPOCH)
    bench.restart()
    bench.obeys()
    bench.confirms(newer, older.digest)
    assert found.refusal is not None
    return f"refused: {found.refusal.detail}; what ran before still does"


def _going_back(bench: Bench) -> str:
    """Install two variants of one epoch and order the first again."""
    bench.start()
    first = bench.installs(version="2")
    bench.installs(version="3")
    bench.want(first)
    bench.confirms(first)
    return "the older version under the present epoch was installed again"


def _golden_passes(bench: Bench) -> str:
    bench.start()
    bench.installs(golden=golden_spec(), requires=("golden",))
    return "confirmed after its self-test"


def _golden_fails(bench: Bench) -> str:
    bench.start()
    good = bench.installs()
    bad = bench.publish(bench.variant(golden=golden_spec(), requires=("golden",), wrong_golden=True))
    bench.want(bad)
    found = bench.refuses_variant(bad, RefusalCode.TRIAL_FAILED)
    active = bench.active()
    bench.obeys()
    if active != good.digest or found.phase not in {Phase.REFUSED, Phase.REVERTED}:
        raise CaseFailedError(
            f"{(active or 'nothing')[:12]} is active in phase {found.phase.value} after the self-test failed"
        )
    assert found.refusal is not None
    return f"refused: {found.refusal.detail}; what ran before still does"


REFUSES = "refuses it by that name, runs none of it, follows the next good order"
RUNS_MODELS = frozenset({Capability.GOLDEN})


def _case(name: str, attack: str, forge: Forge, *codes: RefusalCode) -> Case:
    wanted = " or ".join(f"`{code.value}`" for code in codes)
    return Case(name=name, attack=attack, expected=f"{wanted}: {REFUSES}", run=_refused(forge, *codes))


CASES = (
    _case(
        "manifest-wrong-fleet",
        "a properly signed manifest of another fleet",
        _changed(fleet="elsewhere"),
        RefusalCode.WRONG_FLEET,
    ),
    _case(
        "manifest-wrong-profile",
        "a manifest for another kind of device",
        _changed(profiles=("another-profile",)),
        RefusalCode.WRONG_PROFILE,
    ),
    _case(
        "manifest-unknown-requirement",
        "a manifest that requires what no agent knows",
        _changed(requires=("teleport",)),
        RefusalCode.UNKNOWN_REQUIREMENT,
    ),
    _case("manifest-newer-schema", "a manifest of schema 99", _changed(schema=99), RefusalCode.UNKNOWN_REQUIREMENT),
    _case(
        "manifest-stranger", "a manifest signed by a key that is nobody's", _by("stranger"), RefusalCode.BAD_SIGNATURE
    ),
    _case("manifest-wrong-role", "a manifest signed by the campaign key", _by("campaign"), RefusalCode.BAD_SIGNATURE),
    _case("manifest-altered", "a manifest changed after it was signed", _altered, RefusalCode.BAD_SIGNATURE),
    _case(
        "manifest-replayed",
        "an older good manifest, retained under the name of the wanted one",
        _swapped,
        RefusalCode.DIGEST_MISMATCH,
    ),
    _case(
        "manifest-escaping-name",
        "a properly signed manifest with a file called ../../evil",
        _escaping,
        RefusalCode.MALFORMED,
    ),
    _case(
        "manifest-wrong-whole",
        "right chunks of a file whose digest is another",
        _wrong_whole,
        RefusalCode.DIGEST_MISMATCH,
    ),
    Case(
        name="manifest-lower-epoch",
        attack="a manifest below the security epoch of a confirmed one",
        expected=f"`lower-epoch`: {REFUSES}, also after a restart",
        run=_lower_epoch,
    ),
    Case(
        name="going-back",
        attack="none: an older version of the same epoch is ordered on purpose",
        expected="installs it",
        run=_going_back,
    ),
    Case(
        name="golden-passes",
        attack="none: a bundle with a self-test that passes",
        expected="runs it and confirms the variant",
        run=_golden_passes,
        needs=RUNS_MODELS,
    ),
    Case(
        name="golden-fails",
        attack="a bundle whose model does not answer as its self-test says",
        expected="`trial-failed`; what ran before still runs",
        run=_golden_fails,
        needs=RUNS_MODELS,
    ),
)
