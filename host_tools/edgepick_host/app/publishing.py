"""Publishing, pruning, and bundles as files."""

from collections.abc import Sequence
from pathlib import Path

from edgepick_host.app.composition import broker_of, clock, keys_of, load, store_of, store_to_read, verify_signature
from edgepick_host.app.trust import read_chain, read_root, succession_of
from edgepick_host.core.delta import Tensor
from edgepick_host.core.settings import DEFAULT_DATABASE, HostSettings
from edgepick_host.core.trust import check_signers, document_signer
from edgepick_host.errors import MissingExtraError
from edgepick_host.service import bundles, prepare, pruner, publisher, recipients, source_check
from edgepick_host.service.archive import Archive
from edgepick_host.service.ledger import OnTransfer
from edgepick_host.service.targets import Targets
from edgepick_profiles.load import load_profile
from edgepick_wire.envelope import DocumentType

READ_RANGE = "edgepick_host.adapters.https_ranges:read_range"
FIND_TENSORS = "edgepick_host.compress.tflite_layout:find_tensors"


def publish(
    settings: HostSettings,
    folder: Path,
    *,
    selection: prepare.Selection,
    activation: publisher.Activation,
    republish: bool = False,
    dry_run: bool = False,
    check_sources: bool = True,
    on_progress: OnTransfer = lambda _progress: None,
) -> publisher.Publication:
    """Return what was published of the variants in ``folder`` (or would be, in a dry run).

    Raises:
        InputFileError: A file, variant or key is missing or malformed.
        VerificationError: A digest, key or root document does not fit.
        ProfileError: A variant is for a profile that is not known.
        UnreachableError: No broker.
    """
    source_check.check_templates(selection.sources)
    prepared = prepare_folder(settings, folder, selection, remember=not dry_run)
    if selection.sources and check_sources:
        source_check.check_sources(prepared, load(READ_RANGE))
    if dry_run:
        with store_of(settings) as store:
            return publisher.plan_publication(
                prepared, activation, store, fleet=settings.fleet, place=settings.broker.place
            )
    return publish_prepared(settings, prepared, activation, republish=republish, on_progress=on_progress)


def prepare_folder(
    settings: HostSettings, folder: Path, selection: prepare.Selection, *, remember: bool = True
) -> prepare.Prepared:
    """Return the variants in ``folder``, read and checked, with their encoded forms."""
    folders = [Path(d) for d in settings.profile_dirs]
    return prepare.prepare(
        folder,
        selection,
        lambda name: load_profile(name, directories=folders),
        now=clock().now(),
        find_forms=archive_of(settings, upload=selection.upload, remember=remember).forms,
    )


def archive_of(settings: HostSettings, *, upload: float | None = None, remember: bool = True) -> Archive:
    """Return the folder of published files: beside the database if that is a file, else in this directory."""
    place = DEFAULT_DATABASE if "://" in settings.database else settings.database
    with store_to_read(settings) as store:
        known = recipients.heard(store)
    return Archive(
        folder=Path(f"{place}.files"), find_tensors=_find_tensors, recipients=known, upload=upload, remember=remember
    )


def _find_tensors(data: bytes) -> Sequence[Tensor]:
    """Return the constants of a model file; none where the packages that read it are not installed."""
    try:
        found: Sequence[Tensor] = load(FIND_TENSORS, extra="compress")(data)
    except (MissingExtraError, ImportError):
        return ()
    return found


def publish_prepared(
    settings: HostSettings,
    prepared: prepare.Prepared,
    activation: publisher.Activation,
    *,
    republish: bool = False,
    on_progress: OnTransfer = lambda _progress: None,
) -> publisher.Publication:
    """Return what was published; also for one file from elsewhere (:func:`edgepick_host.service.prepare.prepare_file`).

    Raises:
        VerificationError: The root document does not name the keys, or the broker serves another.
        UnreachableError: No broker.
    """
    document, _ = read_root(settings)
    release, campaign = keys_of(settings, "release"), keys_of(settings, "campaign")
    check_signers(document, fleet=settings.fleet, release=release, campaign=campaign)
    sign = document_signer({DocumentType.MANIFEST: lambda: release, DocumentType.DESIRED: lambda: campaign})
    with broker_of(settings) as broker, store_of(settings) as store:
        targets = Targets(fleet=settings.fleet, broker=broker, store=store, sign=sign, clock=clock())
        done = publisher.Publisher(
            fleet=settings.fleet,
            broker=broker,
            place=settings.broker.place,
            store=store,
            sign=sign,
            succession=succession_of(settings, broker, store),
            targets=targets,
            clock=clock(),
            on_progress=on_progress,
        ).publish(prepared, activation, republish=republish)
    archive_of(settings).keep(prepared)
    return done


def prune(settings: HostSettings, *, dry_run: bool = False) -> pruner.Pruned:
    """Return what was cleared from the broker because nothing needs it.

    Raises:
        StateError: The broker lacks something that is needed; nothing was cleared.
        BusyError: Another ``prune`` of it is at work.
        UnreachableError: No broker.
    """
    with broker_of(settings) as broker, store_of(settings) as store:
        work = pruner.Pruner(
            fleet=settings.fleet, broker=broker, place=settings.broker.place, store=store, clock=clock()
        )
        return work.prune(dry_run=dry_run)


def build_bundle(
    settings: HostSettings, folder: Path, *, selection: prepare.Selection, out: Path
) -> bundles.BundleContent:
    """Return what the bundle at ``out`` holds: the one variant that ``selection`` names, signed.

    Raises:
        InputFileError: A file, variant or key is missing or malformed.
        VerificationError: A model file is not the one that ``variants.json`` names.
    """
    document, _ = read_root(settings)
    release = keys_of(settings, "release")
    check_signers(document, fleet=settings.fleet, release=release, campaign=None)
    (prepared,) = prepare_folder(settings, folder, selection).releases
    sign = document_signer({DocumentType.MANIFEST: lambda: release})
    return bundles.write_bundle(prepared, out, sign=sign, roots=read_chain(settings))


def inspect_bundle(path: Path) -> bundles.BundleContent:
    """Return what a bundle says it holds; nothing is verified.

    Raises:
        InputFileError: Not a bundle.
    """
    return bundles.read_bundle(path)


def verify_bundle(settings: HostSettings, path: Path) -> bundles.BundleContent:
    """Return what a bundle holds, now known to be signed for this fleet and undamaged.

    Raises:
        InputFileError: Not a bundle.
        VerificationError: A signature or digest is wrong.
    """
    _, root = read_root(settings)
    return bundles.verify_bundle(path, root, verify_signature())
