"""Rollouts, decisions and the host service."""

import contextlib
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from edgepick_host.app.composition import clock, connect_broker, keys_of, store_of, store_to_read
from edgepick_host.app.key_watch import KeyWatch
from edgepick_host.app.retention import retention_of
from edgepick_host.app.trust import read_root, succession_of
from edgepick_host.core.decision import DecisionRecord, first_break, parse_record
from edgepick_host.core.explanation import Explanation
from edgepick_host.core.replay import Replayed, replay
from edgepick_host.core.retention import reports_of
from edgepick_host.core.rollout_state import RequestKind, RolloutState
from edgepick_host.core.settings import HostSettings
from edgepick_host.core.trust import check_signers, document_signer
from edgepick_host.core.waves import Plan
from edgepick_host.errors import BusyError, HostError, InputFileError, UnreachableError, VerificationError
from edgepick_host.ports import Broker, HostStore
from edgepick_host.service import campaigns
from edgepick_host.service.audit import audited_here
from edgepick_host.service.collector import Collector
from edgepick_host.service.coordinator import LOOK_SECONDS, Coordinator, free_lease, host_presence, take_lease
from edgepick_host.service.reactions import BudgetsOf
from edgepick_host.service.requests import find_rollout, lease_holder, load_rollouts
from edgepick_profiles.errors import ProfileError
from edgepick_profiles.load import load_profile
from edgepick_profiles.schema import Budgets
from edgepick_wire import codec
from edgepick_wire.envelope import DocumentType

ATTEMPTS = 60
"""Times that a service which begins anew tries to; one that just starts says at once what is wrong."""
ATTEMPT_SECONDS = 1.0


def new_holder() -> str:
    """Return a name for this process that no other has."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"


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
    with store_to_read(settings) as store:
        checked = campaigns.checked_plan(store, model, plan)
        rollout, now = new_rollout_id(), clock().now()
        return campaigns.preview(store, model, checked, rollout=rollout, now=now, budgets_of=budgets_of(settings))


def start_rollout(settings: HostSettings, model: str, plan: Plan, *, replace_running: bool = False) -> RolloutState:
    """Return the new rollout, stored; it proceeds as soon as a coordinator runs.

    Raises:
        StateError: Nothing of this kind was published, or another rollout of the model has not ended, and is not to
            be replaced.
        ConfigError: The plan holds what no document can.
    """
    campaigns.check_readable(plan)
    detail = ("replacing what runs: " if replace_running else "") + codec.encode_document(plan).decode()
    with store_of(settings) as store, audited_here(store, clock(), "rollout.start", model, detail):
        checked = campaigns.checked_plan(store, model, plan)
        name, now = new_rollout_id(), clock().now()
        return campaigns.start(store, model, checked, rollout=name, now=now, replace_running=replace_running)


def rollouts(settings: HostSettings) -> tuple[RolloutState, ...]:
    """Return every rollout, oldest first."""
    with store_to_read(settings) as store:
        return load_rollouts(store)


def rollout(settings: HostSettings, name: str | None) -> RolloutState:
    """Return one rollout by the beginning of its id, or the newest.

    Raises:
        StateError: There is none.
    """
    with store_to_read(settings) as store:
        return find_rollout(store, name)


def explain_rollout(settings: HostSettings, name: str | None) -> Explanation:
    """Return what a rollout (by the beginning of its id, or the newest) waits for, and what would stop it.

    Raises:
        StateError: There is none.
    """
    with store_to_read(settings) as store:
        return campaigns.explained(store, find_rollout(store, name), now=clock().now())


def ask_rollout(settings: HostSettings, name: str, kind: RequestKind) -> RolloutState:
    """Return the rollout that was asked to pause, resume or abort; the coordinator will act on it.

    Raises:
        StateError: There is none, it has ended, or it was asked to abort before.
    """
    with store_of(settings) as store, audited_here(store, clock(), f"rollout.{kind}", name):
        return campaigns.ask(store, name, kind, request=secrets.token_hex(8))


def decision_records(settings: HostSettings, model: str) -> tuple[DecisionRecord, ...]:
    """Return every decision about a model, oldest first; the chain of records is intact.

    Raises:
        VerificationError: A record was changed or removed after it was written.
    """
    with store_to_read(settings) as store:
        return tuple(r for r in map(parse_record, _intact(store)) if r.decision.model == model)


def evidence_gone(settings: HostSettings, records: Sequence[DecisionRecord]) -> Mapping[str, str]:
    """Return id -> what was deleted, for those of these records that rest on reports which are not kept any more."""
    found = {}
    with store_to_read(settings) as store:
        for record in records:
            names = reports_of(record)
            gone = store.missing_reports(names)
            if gone:
                pruned = store.pruned(record.decision.model)
                why = f"; {pruned.text}" if pruned else ", and were not deleted by edgepick"
                found[record.id] = f"{len(gone)} of the {len(names)} reports behind it are not kept any more{why}"
    return found


def replay_decisions(settings: HostSettings, model: str | None = None) -> tuple[Replayed, ...]:
    """Return every decision (about one model), derived again from the log of reports.

    Raises:
        VerificationError: A record was changed or removed after it was written.
    """
    with store_to_read(settings) as store:
        documents = [d for d in _intact(store) if model in (None, parse_record(d).decision.model)]
        models = {parse_record(d).decision.model for d in documents}
        pruned = {name: found for name in models if (found := store.pruned(name)) is not None}
        return replay(documents, store.releases(model), store.reports(model=model), pruned)


def _intact(store: HostStore) -> list[bytes]:
    documents = [document for _, document in store.decisions()]
    broken = first_break(documents)
    if broken is not None:
        raise VerificationError(
            f"decision record {broken + 1} of {len(documents)} does not follow from the one before it",
            hint="The database was changed by something else than edgepick; compare it with a backup.",
        )
    return documents


@contextmanager
def coordinator_of(settings: HostSettings, *, say: Callable[[str], None]) -> Iterator[Coordinator]:
    """Provide the fleet's one coordinator, started; it says goodbye at the end.

    Raises:
        StateError: Another coordinator is at work.
        UnreachableError: No broker.
        VerificationError: The root document does not name the campaign key.
    """
    document, _ = read_root(settings)
    campaign = keys_of(settings, "campaign")
    check_signers(document, fleet=settings.fleet, release=None, campaign=campaign)
    holder = new_holder()
    with store_of(settings) as store:
        take_lease(store, holder, now=clock().now())
        session = store.next_sequence()
        birth, will = (host_presence(settings.fleet, session, online=online) for online in (True, False))
        try:
            broker = connect_broker(settings, birth=birth, will=will)
        except HostError:
            free_lease(store, holder, now=clock().now())
            raise
        try:
            _succeed(settings, broker, store, say)
        except HostError:
            free_lease(store, holder, now=clock().now())
            broker.close()
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


def _succeed(settings: HostSettings, broker: Broker, store: HostStore, say: Callable[[str], None]) -> None:
    """Hand the broker over to this host's root document, if it serves an older one."""
    work = succession_of(settings, broker, store)
    found = work.check()
    if found is None or found == work.root.version:
        return
    done = work.renew()
    say(f"root document version {done.version} is out; {len(done.manifests)} manifests are signed anew")
    if done.waiting:
        say(f"{len(done.waiting)} manifests wait for the new release key: edgepick keys publish, where that key is")


def coordinator_at_work(settings: HostSettings) -> str | None:
    """Return who holds the coordinator's lease; ``None`` if nobody does."""
    with store_to_read(settings) as store:
        return lease_holder(store, now=clock().now())


def serve(settings: HostSettings, *, say: Callable[[str], None], stopped: Callable[[], bool]) -> None:
    """Run the host service until ``stopped``; waits for its turn while another coordinator is at work.

    When the keys are replaced it begins anew with them, by itself.
    """
    waiting_for, attempts = "", 0
    while not stopped():
        holder = coordinator_at_work(settings)
        if holder is None:
            try:
                _serve_with_these_keys(settings, say=say, stopped=stopped)
                attempts = ATTEMPTS
            except (InputFileError, UnreachableError, VerificationError) as error:
                # Beginning anew may meet a rotation between two of its files, or a broker that is just away.
                if attempts == 0:
                    raise
                attempts -= 1
                say(f"{error}; trying again")
                time.sleep(ATTEMPT_SECONDS)
            continue
        if holder != waiting_for:
            say(f"waiting for coordinator {holder} to end")
            waiting_for = holder
        try:
            _collect_meanwhile(settings, say=say, ended=lambda: stopped() or coordinator_at_work(settings) is None)
        except UnreachableError as error:
            say(f"{error}; trying again")
            time.sleep(ATTEMPT_SECONDS)


def _collect_meanwhile(settings: HostSettings, *, say: Callable[[str], None], ended: Callable[[], bool]) -> None:
    """Take in a share of the reports, where the broker gives one, until the coordinator has ended."""
    with store_of(settings) as store, contextlib.closing(connect_broker(settings)) as broker:
        collector = Collector(
            fleet=settings.fleet, store=store, broker=broker, clock=clock(), holder=new_holder(), say=say
        )
        if collector.shares:
            say("taking in a share of the reports meanwhile")
        while not ended():
            collector.step(LOOK_SECONDS)


def _serve_with_these_keys(settings: HostSettings, *, say: Callable[[str], None], stopped: Callable[[], bool]) -> None:
    keys = KeyWatch(settings, say)
    with store_of(settings) as store, coordinator_of(settings, say=say) as coordinator:
        retention = retention_of(settings, store, say)
        say(f"serving fleet {settings.fleet} on {settings.broker.place}")
        while not stopped():
            coordinator.step(LOOK_SECONDS)
            if retention is not None:
                retention.step()
            version = keys.replaced()
            if version is not None:
                say(f"going on with root document version {version}")
                return


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
