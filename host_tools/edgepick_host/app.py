"""The composition root of the host: the only place that picks adapters.

Adapters are named in literal tables as ``"module:name"`` and imported on use, so that a command
pays only for what it needs, and a missing extra hurts only the command that needs it. Every
function here returns a value; printing is the command line's business.
"""

import contextlib
import importlib
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, cast

from edgepick_host.compress.request import CompressRequest, Say
from edgepick_host.core.decision import DecisionRecord, first_break, parse_record
from edgepick_host.core.rollout_state import RequestKind, RolloutState
from edgepick_host.core.roster import Roster, by_name, filters
from edgepick_host.core.settings import HostSettings
from edgepick_host.core.trust import Keyring, check_signers, document_signer, keyring
from edgepick_host.core.variants import VariantSet
from edgepick_host.core.waves import Plan
from edgepick_host.errors import BusyError, ConfigError, HostError, InputFileError, MissingExtraError, VerificationError
from edgepick_host.ports import Broker, Clock, HostStore, SignDocument, Signer
from edgepick_host.service import bundles, campaigns, prepare, pruner, publisher
from edgepick_host.service.coordinator import LOOK_SECONDS, Coordinator, free_lease, host_presence, take_lease
from edgepick_host.service.ledger import OnTransfer
from edgepick_host.service.reactions import BudgetsOf
from edgepick_host.service.requests import find_rollout, lease_holder, load_rollouts
from edgepick_host.service.targets import Targets
from edgepick_profiles.errors import ProfileError
from edgepick_profiles.load import load_profile
from edgepick_profiles.schema import Budgets
from edgepick_wire import envelope
from edgepick_wire.envelope import DocumentType, VerifySignature
from edgepick_wire.errors import WireError
from edgepick_wire.trust import RootDocument, first_root

if TYPE_CHECKING:
    from edgepick_host.compress.step import Pass

BROKER = "edgepick_host.adapters.mqtt:MqttBroker"
STORE = "edgepick_host.adapters.store_sql:SqlStore"
CLOCK = "edgepick_host.adapters.clock:SystemClock"
CREATE_KEYRING = "edgepick_host.adapters.key_files:create_keyring"
VERIFY = "edgepick_host.core.keypair:verify_signature"

SIGNERS = {
    "file": "edgepick_host.adapters.signer_file:open_signer",
    "env": "edgepick_host.adapters.signer_env:open_signer",
}
"""Scheme of a signer's address -> ``(place) -> Signer``."""

OURS = ("edgepick_host", "edgepick_wire", "edgepick_profiles", "edgepick_agent")


def load(reference: str, *, extra: str = "host") -> Any:
    """Return the object that ``"module:name"`` refers to, imported now.

    Raises:
        MissingExtraError: The import needs a package of ``extra`` that is not installed.
    """
    module, _, name = reference.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in OURS:
            raise
        raise MissingExtraError(
            f"this needs the package {error.name!r}, which is not installed",
            hint=f"pip install 'edgepick[{extra}]'",
        ) from error


# Host, broker, store, keys.


def clock() -> Clock:
    """Return the system's clock."""
    return cast("Clock", load(CLOCK)())


def open_store(settings: HostSettings) -> HostStore:
    """Return the database of these settings, made if it is new.

    Raises:
        ConfigError: Not a database URL, or its driver is missing.
        StateError: It cannot be opened.
    """
    place = settings.database
    return cast("HostStore", load(STORE)(place if "://" in place else f"sqlite:///{place}"))


@contextmanager
def store_of(settings: HostSettings) -> Iterator[HostStore]:
    """Provide the database of these settings, closed at the end."""
    store = open_store(settings)
    try:
        yield store
    finally:
        store.close()


def connect_broker(
    settings: HostSettings, *, birth: tuple[str, bytes] | None = None, will: tuple[str, bytes] | None = None
) -> Broker:
    """Return the broker of these settings, connected.

    Args:
        settings: The host's settings.
        birth: Retained ``(topic, payload)`` to publish at every connection.
        will: Retained ``(topic, payload)`` that the broker publishes when the connection is lost.

    Raises:
        UnreachableError: No answer.
        BrokerRefusedError: Wrong password, or not allowed.
    """
    broker = cast("Broker", load(BROKER)(settings.broker, birth=birth, will=will))
    broker.connect()
    return broker


@contextmanager
def broker_of(settings: HostSettings) -> Iterator[Broker]:
    """Provide the broker of these settings, connected; disconnected at the end."""
    broker = connect_broker(settings)
    try:
        yield broker
    finally:
        broker.close()


def signer(address: str) -> Signer:
    """Return the signer at ``scheme:place``, one scheme of ``SIGNERS``.

    Raises:
        ConfigError: An unknown scheme, or an environment variable that is not set.
        InputFileError: No key there.
    """
    scheme, colon, place = address.partition(":")
    if not colon or not place or scheme not in SIGNERS:
        raise ConfigError(
            f"signer {address!r}: expected one of {', '.join(f'{s}:…' for s in SIGNERS)}",
            hint="For example file:keys/release.pem or env:EDGEPICK_CAMPAIGN_KEY.",
        )
    return cast("Signer", load(SIGNERS[scheme])(place))


def sign_document(settings: HostSettings) -> SignDocument:
    """Return a function that signs manifests with the release key and desired state with the campaign key.

    A key is opened when it is first needed: a host that only signs desired state needs no release key.
    """
    return document_signer(
        {
            DocumentType.MANIFEST: lambda: signer(settings.signers.release),
            DocumentType.DESIRED: lambda: signer(settings.signers.campaign),
        }
    )


def verify_signature() -> VerifySignature:
    """Return the function that checks Ed25519 signatures."""
    return cast("VerifySignature", load(VERIFY))


# Keys and the root document.


def create_keys(folder: Path, fleet: str, *, config: Path | None) -> Keyring:
    """Return three new keys and the root document that names them, all in ``folder``.

    Raises:
        StateError: Files of these names exist, or cannot be written.
        BadNameError: The fleet's name is not allowed.
    """
    return cast("Keyring", load(CREATE_KEYRING)(folder, fleet, config=config))


def read_root(settings: HostSettings) -> tuple[RootDocument, bytes]:
    """Return the fleet's root document and its signed bytes.

    Raises:
        InputFileError: There is none.
        VerificationError: It does not carry its own signatures.
    """
    path = Path(settings.root_document)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputFileError(
            f"{path}: {(error.strerror or 'cannot be read').lower()} (the fleet's root document)",
            hint="`edgepick keys init` makes keys and a root document.",
        ) from error
    try:
        return first_root(envelope.unpack(data), verify_signature()), data
    except WireError as error:
        raise VerificationError(f"{path}: {error}", hint="Restore it from a device or from a copy.") from error


def show_keys(settings: HostSettings) -> Keyring:
    """Return the keys that count in this fleet, and which of them this host holds.

    Raises:
        InputFileError: No root document.
        VerificationError: It does not carry its own signatures.
    """
    document, _ = read_root(settings)
    root_key = f"file:{Path(settings.root_document).parent / 'root.pem'}"
    private = {}
    for address in (root_key, settings.signers.release, settings.signers.campaign):
        try:
            private[signer(address).public_key] = address
        except HostError:  # noqa: PERF203 - a key that is elsewhere is the normal case
            continue
    return keyring(document, settings.root_document, private)


# Publishing.


def publish(
    settings: HostSettings,
    folder: Path,
    *,
    selection: prepare.Selection,
    activation: publisher.Activation,
    republish: bool = False,
    dry_run: bool = False,
    on_progress: OnTransfer = lambda _progress: None,
) -> publisher.Publication:
    """Return what was published of the variants in ``folder`` (or would be, in a dry run).

    Raises:
        InputFileError: A file, variant or key is missing or malformed.
        VerificationError: A digest, key or root document does not fit.
        ProfileError: A variant is for a profile that is not known.
        UnreachableError: No broker.
    """
    prepared = prepare_folder(settings, folder, selection)
    if dry_run:
        with store_of(settings) as store:
            return publisher.plan_publication(
                prepared, activation, store, fleet=settings.fleet, place=settings.broker.place
            )
    return publish_prepared(settings, prepared, activation, republish=republish, on_progress=on_progress)


def prepare_folder(settings: HostSettings, folder: Path, selection: prepare.Selection) -> prepare.Prepared:
    """Return the variants in ``folder``, read and checked."""
    folders = [Path(d) for d in settings.profile_dirs]
    return prepare.prepare(folder, selection, lambda name: load_profile(name, directories=folders), now=clock().now())


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
    document, root = read_root(settings)
    release, campaign = signer(settings.signers.release), signer(settings.signers.campaign)
    check_signers(document, fleet=settings.fleet, release=release.public_key, campaign=campaign.public_key)
    sign = document_signer({DocumentType.MANIFEST: lambda: release, DocumentType.DESIRED: lambda: campaign})
    with broker_of(settings) as broker, store_of(settings) as store:
        targets = Targets(fleet=settings.fleet, broker=broker, store=store, sign=sign, clock=clock())
        return publisher.Publisher(
            fleet=settings.fleet,
            broker=broker,
            place=settings.broker.place,
            store=store,
            sign=sign,
            root=root,
            targets=targets,
            on_progress=on_progress,
        ).publish(prepared, activation, republish=republish)


def prune(settings: HostSettings, *, dry_run: bool = False) -> pruner.Pruned:
    """Return what was cleared from the broker because nothing needs it.

    Raises:
        StateError: The broker lacks something that is needed; nothing was cleared.
        UnreachableError: No broker.
    """
    with broker_of(settings) as broker, store_of(settings) as store:
        work = pruner.Pruner(fleet=settings.fleet, broker=broker, place=settings.broker.place, store=store)
        return work.prune(dry_run=dry_run)


# Bundles.


def build_bundle(
    settings: HostSettings, folder: Path, *, selection: prepare.Selection, out: Path
) -> bundles.BundleContent:
    """Return what the bundle at ``out`` holds: the one variant that ``selection`` names, signed.

    Raises:
        InputFileError: A file, variant or key is missing or malformed.
        VerificationError: A model file is not the one that ``variants.json`` names.
    """
    document, root = read_root(settings)
    release = signer(settings.signers.release)
    check_signers(document, fleet=settings.fleet, release=release.public_key, campaign=None)
    (prepared,) = prepare_folder(settings, folder, selection).releases
    sign = document_signer({DocumentType.MANIFEST: lambda: release})
    return bundles.write_bundle(prepared, out, sign=sign, root=root)


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


# Devices.


def roster(settings: HostSettings) -> Roster:
    """Return who is in the fleet, from what the broker retains and what the store remembers.

    Raises:
        UnreachableError: No broker.
    """
    found = _roster(settings)
    with broker_of(settings) as broker:
        for topic, payload in broker.retained(filters(settings.fleet)).items():
            found.hear(topic, payload)
    return found


@contextmanager
def live_roster(settings: HostSettings, on_change: Callable[[Roster], None]) -> Iterator[None]:
    """Call ``on_change`` with the roster at every message of a device, until the context ends.

    The calls come from the broker's thread, one at a time.

    Raises:
        UnreachableError: No broker.
    """
    found = _roster(settings)
    lock = Lock()

    def hear(topic: str, payload: bytes) -> None:
        with lock:
            found.hear(topic, payload)
            on_change(found)

    with broker_of(settings) as broker:
        on_change(found)
        broker.subscribe(filters(settings.fleet), hear)
        yield


def _roster(settings: HostSettings) -> Roster:
    place = settings.database
    if "://" not in place and not Path(place).exists():
        return Roster(settings.fleet)
    with store_of(settings) as store:
        return Roster(settings.fleet, by_name(store.devices()))


# Rollouts and the host service.


def new_rollout_id() -> str:
    """Return a name for a rollout that no other has."""
    return f"r-{secrets.token_hex(4)}"


def budgets_of(settings: HostSettings) -> BudgetsOf:
    """Return a function from a profile's name to its hard limits; ``None`` for a profile that is not known."""
    folders = [Path(d) for d in settings.profile_dirs]

    def budgets(name: str) -> Budgets | None:
        try:
            return load_profile(name, directories=folders).budgets
        except ProfileError:
            return None

    return budgets


def preview_rollout(settings: HostSettings, model: str, plan: Plan) -> campaigns.Preview:
    """Return what a rollout would do, by what the store knows now; nothing is changed.

    Raises:
        StateError: Nothing of this model, version, profile or variant was published.
    """
    with store_of(settings) as store:
        checked = campaigns.checked_plan(store, model, plan)
        rollout, now = new_rollout_id(), clock().now()
        return campaigns.preview(store, model, checked, rollout=rollout, now=now, budgets_of=budgets_of(settings))


def start_rollout(settings: HostSettings, model: str, plan: Plan) -> RolloutState:
    """Return the new rollout, stored; it proceeds as soon as a coordinator runs.

    Raises:
        StateError: Nothing of this kind was published, or another rollout of the model has not ended.
    """
    with store_of(settings) as store:
        checked = campaigns.checked_plan(store, model, plan)
        return campaigns.start(store, model, checked, rollout=new_rollout_id(), now=clock().now())


def rollouts(settings: HostSettings) -> tuple[RolloutState, ...]:
    """Return every rollout, oldest first."""
    with store_of(settings) as store:
        return load_rollouts(store)


def rollout(settings: HostSettings, name: str | None) -> RolloutState:
    """Return one rollout by the beginning of its id, or the newest.

    Raises:
        StateError: There is none.
    """
    with store_of(settings) as store:
        return find_rollout(store, name)


def ask_rollout(settings: HostSettings, name: str, kind: RequestKind) -> RolloutState:
    """Return the rollout that was asked to pause, resume or abort; the coordinator will act on it.

    Raises:
        StateError: There is none, or it has ended.
    """
    with store_of(settings) as store:
        return campaigns.ask(store, name, kind, request=secrets.token_hex(8))


def decision_records(settings: HostSettings, model: str) -> tuple[DecisionRecord, ...]:
    """Return every decision about a model, oldest first; the chain of records is intact.

    Raises:
        VerificationError: A record was changed or removed after it was written.
    """
    with store_of(settings) as store:
        documents = [document for _, document in store.decisions()]
    broken = first_break(documents)
    if broken is not None:
        raise VerificationError(
            f"decision record {broken + 1} of {len(documents)} does not follow from the one before it",
            hint="The database was changed by something else than edgepick; compare it with a backup.",
        )
    return tuple(r for r in map(parse_record, documents) if r.decision.model == model)


@contextmanager
def coordinator_of(settings: HostSettings, *, say: Callable[[str], None]) -> Iterator[Coordinator]:
    """Provide the fleet's one coordinator, started; it says goodbye at the end.

    Raises:
        StateError: Another coordinator is at work.
        UnreachableError: No broker.
        VerificationError: The root document does not name the campaign key.
    """
    document, _ = read_root(settings)
    campaign = signer(settings.signers.campaign)
    check_signers(document, fleet=settings.fleet, release=None, campaign=campaign.public_key)
    holder = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
    with store_of(settings) as store:
        take_lease(store, holder, now=clock().now())
        session = store.next_sequence()
        birth, will = (host_presence(settings.fleet, session, online=online) for online in (True, False))
        try:
            broker = connect_broker(settings, birth=birth, will=will)
        except HostError:
            free_lease(store, holder, now=clock().now())
            raise
        coordinator = Coordinator(
            fleet=settings.fleet,
            store=store,
            broker=broker,
            sign=document_signer({DocumentType.DESIRED: lambda: campaign}),
            clock=clock(),
            budgets_of=budgets_of(settings),
            holder=holder,
            session=session,
            say=say,
        )
        try:
            coordinator.start()
            yield coordinator
        finally:
            coordinator.stop()
            broker.close()


def coordinator_at_work(settings: HostSettings) -> str | None:
    """Return who holds the coordinator's lease; ``None`` if nobody does."""
    with store_of(settings) as store:
        return lease_holder(store, now=clock().now())


def serve(settings: HostSettings, *, say: Callable[[str], None], stopped: Callable[[], bool]) -> None:
    """Run the host service until ``stopped``; waits for its turn while another coordinator is at work."""
    waiting_for = ""
    while not stopped():
        holder = coordinator_at_work(settings)
        if holder is None:
            with coordinator_of(settings, say=say) as coordinator:
                say(f"serving fleet {settings.fleet} on {settings.broker.place}")
                while not stopped():
                    coordinator.step(LOOK_SECONDS)
            return
        if holder != waiting_for:
            say(f"waiting for coordinator {holder} to end")
            waiting_for = holder
        time.sleep(LOOK_SECONDS)


def follow_rollout(
    settings: HostSettings, name: str, *, say: Callable[[str], None], show: Callable[[RolloutState], None]
) -> RolloutState:
    """Return the rollout once it has ended; ``show`` gets it at every look.

    While no service is at work, this process is the coordinator.

    Raises:
        UnreachableError: No broker, and no service.
    """
    while True:
        state = rollout(settings, name)
        show(state)
        if state.settled:
            return state
        if coordinator_at_work(settings) is None:
            with contextlib.suppress(BusyError), coordinator_of(settings, say=say) as coordinator:
                while not (state := rollout(settings, name)).settled:
                    show(state)
                    coordinator.step(LOOK_SECONDS)
        else:
            time.sleep(LOOK_SECONDS)


# Compression.

COMPRESS = "edgepick_host.compress.pipeline:compress"

PASSES = {
    "identity": "edgepick_host.compress.passes.identity:build",
    "tflite_dynamic_int8": "edgepick_host.compress.passes.tflite_dynamic_int8:build",
    "tflite_float16": "edgepick_host.compress.passes.tflite_float16:build",
    "tflite_prune": "edgepick_host.compress.passes.tflite_prune:build",
    "tflite_static_int8": "edgepick_host.compress.passes.tflite_static_int8:build",
    "onnx_dynamic_int8": "edgepick_host.compress.passes.onnx_dynamic_int8:build",
    "onnx_float16": "edgepick_host.compress.passes.onnx_float16:build",
    "onnx_prune": "edgepick_host.compress.passes.onnx_prune:build",
    "onnx_static_qdq": "edgepick_host.compress.passes.onnx_static_qdq:build",
}
"""Name of a pass in a recipe -> ``() -> Pass``."""


def compression_pass(name: str) -> "Pass":
    """Return the pass of that name.

    Raises:
        MissingExtraError: What it is built on is not installed.
    """
    return cast("Pass", load(PASSES[name], extra="compress")())


def compress_model(request: CompressRequest, *, say: Say) -> VariantSet:
    """Return the variants of a float model for the profiles asked for, written to ``request.out``.

    Args:
        request: What to compress, for whom, and how good it must stay.
        say: Called with one line for a person, before each piece of work.

    Raises:
        InputFileError: A model or an archive is not what it should be; nothing was written.
        MissingExtraError: A package that compresses is not installed.
    """
    compress = load(COMPRESS, extra="compress")
    return cast("VariantSet", compress(request, passes=compression_pass, say=say))
