"""Shadows: asked for, called off, looked at."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from edgepick_host.app.composition import broker_of, clock, keys_of, store_of, store_to_read
from edgepick_host.app.trust import read_root
from edgepick_host.core.settings import HostSettings
from edgepick_host.core.trust import check_signers, document_signer
from edgepick_host.service.shadows import Audience, Shadowing, Shadows, find_release, results
from edgepick_host.service.targets import Targets, ToldTarget
from edgepick_wire.envelope import DocumentType
from edgepick_wire.messages import Report
from edgepick_wire.shadow import ShadowRequest


def start_shadow(
    settings: HostSettings,
    names: tuple[str, str, str],
    audience: Audience,
    *,
    permille: int,
    seconds: float,
    requests: int,
) -> Shadowing:
    """Return what was asked of whom: to run the variant of these names (model, version, variant) as a shadow.

    Raises:
        StateError: No such variant, or nobody can do it.
        VerificationError: The root document does not name the campaign key.
        UnreachableError: No broker.
    """
    with _shadows(settings) as shadows:
        release = find_release(shadows.store.releases(names[0]), *names)
        name = f"s-{secrets.token_hex(4)}"
        request = ShadowRequest(
            id=name, manifest=release.manifest, permille=permille, seconds=seconds, requests=requests
        )
        return shadows.start(release, request, audience)


def stop_shadow(settings: HostSettings, model: str, audience: Audience) -> tuple[ToldTarget, ...]:
    """Return who was told to end the shadows of a model.

    Raises:
        UnreachableError: No broker.
    """
    with _shadows(settings) as shadows:
        return shadows.stop(model, audience)


def shadow_reports(settings: HostSettings, model: str | None) -> tuple[Report, ...]:
    """Return what shadows have reported, of one model or of all; none without a database."""
    with store_to_read(settings) as store:
        return results(store.reports(model=model), model)


@contextmanager
def _shadows(settings: HostSettings) -> Iterator[Shadows]:
    document, _ = read_root(settings)
    campaign = keys_of(settings, "campaign")
    check_signers(document, fleet=settings.fleet, release=None, campaign=campaign)
    sign = document_signer({DocumentType.DESIRED: lambda: campaign})
    with broker_of(settings) as broker, store_of(settings) as store:
        targets = Targets(fleet=settings.fleet, broker=broker, store=store, sign=sign, clock=clock())
        yield Shadows(store=store, targets=targets)
