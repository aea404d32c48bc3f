"""Attacks on desired states: replayed, moved, forged, misformed."""

import os
from collections.abc import Callable

from edgepick_host.conformance.bench import Bench
from edgepick_host.conformance.documents import Variant, altered, sign
from edgepick_host.conformance.verdict import Case, CaseFailedError
from edgepick_wire import codec
from edgepick_wire.envelope import DocumentType
from edgepick_wire.limits import MAX_PAYLOAD_BYTES
from edgepick_wire.messages import Desired, IncidentCode, Report, TargetKind

Forge = Callable[[Bench, Variant], tuple[bytes, int | None]]
"""Makes the bytes of an order to run a variant, and the sequence that following it would show."""

REFUSED = "reports `desired-refused`, follows the next good order, never runs what the bad one named"


def _refused(forge: Forge) -> Callable[[Bench], str]:
    """Return a case: an order that is right, then a wrong one, then a right one."""

    def run(bench: Bench) -> str:
        bench.start()
        bench.obeys()
        evil = bench.publish(bench.variant())
        raw, sequence = forge(bench, evil)
        bench.tell(raw)
        said = bench.refuses_order(evil, sequence)
        bench.obeys()
        bench.never_ran(evil.digest)
        return f"refused: {said.detail}"

    return run


def _lower(bench: Bench, evil: Variant) -> tuple[bytes, int | None]:
    bench.follows(bench.want(sequence=10))
    return bench.signed_desired(bench.desired(evil.digest, sequence=9)), 9


def _same(bench: Bench, evil: Variant) -> tuple[bytes, int | None]:
    return bench.signed_desired(bench.desired(evil.digest, sequence=bench.sequence)), None


def _signed(bench: Bench, evil: Variant, **changes: object) -> tuple[bytes, int | None]:
    document = bench.desired(evil.digest, **changes)
    return bench.signed_desired(document), document.sequence


def _by(role: str) -> Forge:
    def forge(bench: Bench, evil: Variant) -> tuple[bytes, int | None]:
        document = bench.desired(evil.digest)
        return bench.signed_desired(document, key=getattr(bench.keys, role)), document.sequence

    return forge


def _altered(bench: Bench, evil: Variant) -> tuple[bytes, int | None]:
    document = bench.desired(evil.digest)
    return altered(bench.signed_desired(document), b'"issued_at":1.0', b'"issued_at":2.0'), document.sequence


def _wrong_type(bench: Bench, evil: Variant) -> tuple[bytes, int | None]:
    document = bench.desired(evil.digest)
    return sign(DocumentType.MANIFEST, codec.encode(document), bench.keys.campaign), document.sequence


def _twice_named(bench: Bench, evil: Variant) -> tuple[bytes, int | None]:
    document = bench.desired(evil.digest)
    payload = codec.encode(document).replace(b'{"fleet"', b'{"sequence":1,"fleet"', 1)
    return sign(DocumentType.DESIRED, payload, bench.keys.campaign), document.sequence


def _garbage(bench: Bench, _evil: Variant) -> tuple[bytes, int | None]:
    return sign(DocumentType.DESIRED, b"\xff\x00{not JSON", bench.keys.campaign), None


def _oversized(bench: Bench, evil: Variant) -> tuple[bytes, int | None]:
    raw, sequence = _signed(bench, evil)
    return raw + b" " * MAX_PAYLOAD_BYTES, sequence


def _moved_to_profile(bench: Bench) -> str:
    bench.start()
    bench.obeys()
    evil = bench.publish(bench.variant())
    document = bench.desired(evil.digest, target_kind=TargetKind.PROFILE, target="another-profile")
    bench.tell(bench.signed_desired(document), TargetKind.PROFILE)
    said = bench.refuses_order(evil, document.sequence)
    bench.obeys()
    bench.never_ran(evil.digest)
    return f"refused: {said.detail}"


def _frozen(bench: Bench) -> str:
    """Put an old order back while the device is away, as a broker restored from a backup does."""
    bench.start()
    evil = bench.publish(bench.variant())
    old = bench.signed_desired(bench.desired(evil.digest))
    bench.obeys()
    bench.restart(lambda: bench.tell(old))
    said = bench.refuses_order(evil, 1)
    bench.obeys()
    bench.never_ran(evil.digest)
    return f"refused after a restart: {said.detail}"


def _forgotten(bench: Bench) -> str:
    """Take the newer of the two addresses away: the older one must not rule meanwhile."""
    bench.start()
    evil = bench.publish(bench.variant())
    profile = bench.desired(evil.digest, target_kind=TargetKind.PROFILE, target="generic-linux", sequence=5)
    bench.follows(bench.want(sequence=6))
    bench.tell(bench.signed_desired(profile), TargetKind.PROFILE)
    bench.obeys()
    bench.restart(lambda: bench.tell(b""))
    bench.obeys()
    bench.never_ran(evil.digest)
    return "the profile's older order did not rule while the device's own was gone"


def _again(bench: Bench) -> str:
    """Deliver one order many times, also over a restart."""
    bench.start()
    variant = bench.publish(bench.variant())
    raw = bench.signed_desired(bench.desired(variant.digest))
    for _ in range(5):
        bench.tell(raw)
    bench.confirms(variant)
    bench.restart(lambda: bench.tell(raw))
    bench.confirms(variant)
    bench.obeys()
    refused = bench.incidents(IncidentCode.DESIRED_REFUSED)
    installed = {r.id for r in bench.host.heard(Report) if r.install}
    if refused or len(installed) > 1:
        raise CaseFailedError(f"one order delivered 6 times: {len(refused)} refusals, {len(installed)} installations")
    return "one order delivered 6 times was carried out once"


def _unknown_fields(bench: Bench) -> str:
    bench.start()
    variant = bench.variant()
    variant = variant.with_manifest(variant.payload.replace(b"{", b'{"a_later_field":{"x":[1,null]},', 1))
    bench.publish(variant)
    document: Desired = bench.desired(variant.digest)
    payload = codec.encode(document).replace(b"{", b'{"a_later_field":[{"y":2.5}],', 1)
    bench.tell(sign(DocumentType.DESIRED, payload, bench.keys.campaign))
    bench.confirms(variant)
    return "manifest and order with unknown fields were followed"


def _superseded(bench: Bench) -> str:
    """Want something that cannot be completed, and then something else."""
    bench.start()
    stuck, good = bench.variant(), bench.publish(bench.variant())
    bench.publish_chunks(stuck, without=stuck.padding[:2])
    bench.publish_manifest(stuck)
    bench.follows(bench.want(stuck))
    bench.want(good)
    bench.confirms(good, stuck.digest)
    return "the newer order replaced one whose chunks never came"


def _noise(bench: Bench) -> str:
    """Send a hundred orders of random bytes and then a good one."""
    bench.start()
    for size in range(100):
        bench.tell(os.urandom(size + 1))
    bench.obeys()
    return "followed the good order after 100 orders of random bytes"


CASES = (
    Case(
        name="order-lower-sequence",
        attack="a properly signed order with a lower sequence than one already followed",
        expected=REFUSED,
        run=_refused(_lower),
    ),
    Case(
        name="order-same-sequence",
        attack="another order under the sequence of one already followed",
        expected=REFUSED,
        run=_refused(_same),
    ),
    Case(
        name="order-frozen",
        attack="the broker is put back to an older order while the device is away",
        expected=REFUSED,
        run=_frozen,
    ),
    Case(
        name="order-newest-gone",
        attack="the newest order is deleted while the device is away; an older one of its profile is left",
        expected="the older one does not rule; the next good order is followed",
        run=_forgotten,
    ),
    Case(
        name="order-wrong-fleet",
        attack="an order of another fleet, signed with this fleet's key",
        expected=REFUSED,
        run=_refused(lambda b, e: _signed(b, e, fleet="elsewhere")),
    ),
    Case(
        name="order-other-device",
        attack="another device's desired state, copied to this device's topic",
        expected=REFUSED,
        run=_refused(lambda b, e: _signed(b, e, target="dut-2")),
    ),
    Case(
        name="order-other-profile",
        attack="another profile's desired state, copied to this profile's topic",
        expected=REFUSED,
        run=_moved_to_profile,
    ),
    Case(
        name="order-stranger",
        attack="an order signed by a key that is nobody's",
        expected=REFUSED,
        run=_refused(_by("stranger")),
    ),
    Case(
        name="order-wrong-role",
        attack="an order signed by the release key",
        expected=REFUSED,
        run=_refused(_by("release")),
    ),
    Case(
        name="order-altered",
        attack="an order changed after it was signed",
        expected=REFUSED,
        run=_refused(_altered),
    ),
    Case(
        name="order-wrong-type",
        attack="an order in an envelope of type manifest, signed by the campaign key",
        expected=REFUSED,
        run=_refused(_wrong_type),
    ),
    Case(
        name="order-key-twice",
        attack="an order whose JSON names `sequence` twice",
        expected=REFUSED,
        run=_refused(_twice_named),
    ),
    Case(
        name="order-no-json",
        attack="properly signed bytes that are no JSON",
        expected=REFUSED,
        run=_refused(_garbage),
    ),
    Case(
        name="order-oversized",
        attack="an order larger than any message may be",
        expected=REFUSED,
        run=_refused(_oversized),
    ),
    Case(
        name="order-noise",
        attack="a hundred orders of random bytes",
        expected="follows the next good order",
        run=_noise,
    ),
    Case(
        name="order-again",
        attack="one order delivered many times, also after a restart",
        expected="carried out once, refused never",
        run=_again,
    ),
    Case(
        name="order-superseded",
        attack="an order that can never be completed, then another",
        expected="the newer one is carried out",
        run=_superseded,
    ),
    Case(
        name="unknown-fields",
        attack="manifest and order with fields of a later version",
        expected="ignores them and installs",
        run=_unknown_fields,
    ),
)
