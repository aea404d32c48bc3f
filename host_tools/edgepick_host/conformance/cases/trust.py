"""Attacks on the root of trust: forged and broken chains, revoked keys, stolen keys."""

from collections.abc import Callable
from dataclasses import replace

from edgepick_host.conformance.bench import Bench
from edgepick_host.conformance.documents import Keys, new_key
from edgepick_host.conformance.verdict import Case
from edgepick_wire.messages import IncidentCode, RefusalCode

STOLEN_SEQUENCE = 2**53 - 1
"""The largest whole number that every JSON parser keeps."""

Forge = Callable[[Bench, Keys], tuple[bytes, int]]
"""Makes a root document that names the thief's keys, and the version it is published as."""


def _rejected(forge: Forge) -> Callable[[Bench], str]:
    """Return a case: a root document that must not be followed, and an order by the keys that it names."""

    def run(bench: Bench) -> str:
        bench.start()
        thief = Keys()
        raw, version = forge(bench, thief)
        bench.publish_root(raw, version)
        bench.obeys()
        evil = bench.publish(bench.variant())
        bench.tell(bench.signed_desired(bench.desired(evil.digest), key=thief.campaign))
        bench.obeys()
        bench.restart()
        bench.obeys()
        bench.never_ran(evil.digest)
        bench.not_wanted(evil)
        return "the old keys still count, the forged ones do not, also after a restart"

    return run


def _by_stranger(bench: Bench, thief: Keys) -> tuple[bytes, int]:
    return bench.root_document(thief.document(bench.fleet, 2), thief.root), 2


def _by_old_only(bench: Bench, thief: Keys) -> tuple[bytes, int]:
    """Sign by the root role in office, and not by the one that the document names."""
    return bench.root_document(thief.document(bench.fleet, 2), bench.keys.root), 2


def _by_campaign(bench: Bench, thief: Keys) -> tuple[bytes, int]:
    document = replace(bench.keys.document(bench.fleet, 2), campaign=thief.document(bench.fleet).campaign)
    return bench.root_document(document, bench.keys.campaign), 2


def _other_fleet(bench: Bench, thief: Keys) -> tuple[bytes, int]:
    return bench.root_document(thief.document("elsewhere", 2), bench.keys.root, thief.root), 2


def _gap(bench: Bench, thief: Keys) -> tuple[bytes, int]:
    """Sign version 3 as it must be; version 2 is nowhere."""
    return bench.root_document(thief.document(bench.fleet, 3), bench.keys.root, thief.root), 3


def _same_version(bench: Bench, thief: Keys) -> tuple[bytes, int]:
    return bench.root_document(thief.document(bench.fleet, 1), bench.keys.root, thief.root), 1


def _revoked_release(bench: Bench) -> str:
    """Replace the release key while the device is away."""
    bench.start()
    bench.obeys()
    before = bench.keys
    bench.restart(lambda: bench.rotate(release=new_key()))
    evil = bench.variant()
    bench.publish_chunks(evil)
    bench.publish_manifest(evil, key=before.release)
    bench.want(evil)
    bench.refuses_variant(evil, RefusalCode.BAD_SIGNATURE)
    good = bench.installs()
    bench.never_ran(evil.digest)
    return f"refused what the revoked key signed, installed {good.digest[:12]} by the new one"


def _revoked_campaign(bench: Bench) -> str:
    """Replace the campaign key while the device is away."""
    bench.start()
    bench.obeys()
    before = bench.keys
    bench.restart(lambda: bench.rotate(campaign=new_key()))
    bench.obeys()
    evil = bench.publish(bench.variant())
    document = bench.desired(evil.digest)
    seen = len(bench.incidents(IncidentCode.DESIRED_REFUSED))
    bench.tell(bench.signed_desired(document, key=before.campaign))
    said = bench.refuses_order(evil, document.sequence, count=seen + 1)
    bench.obeys()
    bench.never_ran(evil.digest)
    return f"refused: {said.detail}"


def _two_rotations(bench: Bench) -> str:
    """Replace every key twice while the device is away."""
    bench.start()
    bench.obeys()

    def rotate_twice() -> None:
        for version in (2, 3):
            bench.rotate(version, root=new_key(), release=new_key(), campaign=new_key())

    bench.restart(rotate_twice)
    variant = bench.installs()
    return f"followed both root documents and installed {variant.digest[:12]} by the newest keys"


def _root_replayed(bench: Bench) -> str:
    """Put the first root document back on the topic after a rotation."""
    bench.start()
    first = bench.root_document(bench.keys.document(bench.fleet))
    old = bench.rotate(campaign=new_key())
    bench.obeys()
    bench.restart(lambda: bench.publish_root(first, 1))
    bench.obeys()
    evil = bench.publish(bench.variant())
    document = bench.desired(evil.digest)
    bench.tell(bench.signed_desired(document, key=old.campaign))
    bench.refuses_order(evil, document.sequence)
    bench.obeys()
    return "the older root document brought no revoked key back"


def _fast_forward(bench: Bench) -> str:
    """Have a thief use up the sequences, and recover by replacing the key."""
    bench.start()
    stolen = bench.want(sequence=STOLEN_SEQUENCE)
    bench.follows(stolen)
    bench.rotate(campaign=new_key())
    bench.sequence = 1
    variant = bench.installs()
    bench.restart()
    bench.confirms(variant)
    return f"followed sequence 2 by the new key after {STOLEN_SEQUENCE} by the stolen one"


FORGED = "goes on with the keys it has; refuses what the forged document's keys sign, also after a restart"


def _case(name: str, attack: str, forge: Forge) -> Case:
    return Case(name=name, attack=attack, expected=FORGED, run=_rejected(forge))


CASES = (
    _case("root-stranger", "a root document signed only by the keys that it names", _by_stranger),
    _case("root-old-only", "a root document that its own root role did not sign", _by_old_only),
    _case("root-wrong-role", "a root document signed by the campaign key", _by_campaign),
    _case("root-other-fleet", "a root document of another fleet, signed with this fleet's key", _other_fleet),
    _case("root-gap", "version 3 of the root document without version 2", _gap),
    _case("root-same-version", "another version 1 of the root document", _same_version),
    Case(
        name="root-replayed",
        attack="an older root document is put back after a rotation",
        expected="ignores it; keys that it names and that were revoked stay revoked",
        run=_root_replayed,
    ),
    Case(
        name="root-two-rotations",
        attack="none: every key is replaced twice while the device is away",
        expected="follows both root documents and what the newest keys sign",
        run=_two_rotations,
    ),
    Case(
        name="revoked-release-key",
        attack="a manifest by a release key that was replaced while the device was away",
        expected="`bad-signature`; installs what the new key signs",
        run=_revoked_release,
    ),
    Case(
        name="revoked-campaign-key",
        attack="an order by a campaign key that was replaced while the device was away",
        expected="reports `desired-refused`, follows orders by the new key",
        run=_revoked_campaign,
    ),
    Case(
        name="fast-forward",
        attack="an enormous sequence by a stolen campaign key; then the key is replaced",
        expected="begins anew with the first order of the new key",
        run=_fast_forward,
    ),
)
