"""What every store promises: the SQL one on a file and in memory, and the fake that tests use."""

import itertools
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgepick_host.adapters.store_sql import SqlStore
from edgepick_host.core.records import (
    AuditEntry,
    DeviceQuery,
    Hearing,
    MemberRow,
    ProfileCount,
    Pruned,
    Release,
    Role,
    Token,
)
from edgepick_wire import codec
from edgepick_wire.ids import digest_of
from edgepick_wire.messages import (
    Assignment,
    Birth,
    Desired,
    Incident,
    IncidentCode,
    InstallOutcome,
    MeasuredVariant,
    ModelState,
    Outcome,
    Phase,
    Presence,
    Refusal,
    RefusalCode,
    Report,
    Reported,
    ReportKind,
    ShadowedVariant,
    TargetKind,
)
from fakes.store import MemoryStore

MAKERS = {
    "file": lambda folder: SqlStore(f"sqlite:///{folder / 'host.db'}"),
    "memory": lambda _folder: SqlStore("sqlite://"),
    "fake": lambda _folder: MemoryStore(),
}


@pytest.fixture(params=[*sorted(MAKERS), "postgresql"])
def store(request, tmp_path: Path):
    if request.param == "postgresql":
        made = SqlStore(request.getfixturevalue("postgresql").new_database())
    else:
        made = MAKERS[request.param](tmp_path)
    yield made
    made.close()


def release(variant: str, model: str = "digits") -> Release:
    return Release(
        model=model,
        version="1",
        variant=variant,
        manifest=digest_of(f"{model}/{variant}".encode()),
        profiles=("raspberry-pi-4",),
        size_bytes=1000,
        security_epoch=0,
        accuracy=0.97,
        accuracy_drop=0.001,
        rank=0,
        published_at=12.0,
    )


def desired(sequence: int, target: str = "raspberry-pi-4", active: str | None = None) -> Desired:
    return Desired(
        fleet="main",
        target_kind=TargetKind.PROFILE,
        target=target,
        sequence=sequence,
        issued_at=1.0,
        models=(Assignment(model="digits", active=active),),
    )


def report(number: int, device: str = "pi-1", model: str | None = "digits") -> Report:
    incident = Incident(code=IncidentCode.RUNNER_CRASHED, detail=f"crash {number}", model=model)
    return Report(
        id=f"r{number}",
        device=device,
        session=1,
        recorded_at=float(number),
        kind=ReportKind.INCIDENT,
        incident=incident,
    )


def birth(session: int, device: str = "pi-1") -> Birth:
    return Birth(
        device=device,
        session=session,
        profile="raspberry-pi-4",
        agent_version="0.1.0",
        machine="aarch64",
        system="Linux",
        python="3.11",
        runtimes=(),
        memory_bytes=1,
        disk_free_bytes=1,
    )


def test_sequences_rise(store):
    """Each sequence is higher than any before, and than a floor that the caller knows of."""
    first, second = store.next_sequence(), store.next_sequence()

    third, fourth = store.next_sequence(above=40), store.next_sequence()

    assert [first, second, third, fourth] == [1, 2, 41, 42]


def test_sequences_are_taken_many_at_once(store):
    """The first of several is returned; nobody gets one of the others."""
    taken = [store.next_sequence(), store.next_sequence(above=40, count=5), store.next_sequence()]

    assert taken == [1, 41, 46]


def test_release_comes_back_whole_and_in_order(store):
    """Releases come back as they were saved, oldest first, and per model."""
    for variant, model in (("b", "digits"), ("a", "digits"), ("a", "other")):
        store.save_release(release(variant, model), f"signed {model} {variant}".encode())

    found = store.releases("digits")

    assert found == [release("b"), release("a")]
    assert len(store.releases()) == 3
    assert store.manifest(release("a").manifest) == b"signed digits a"


def test_publishing_again_changes_nothing(store):
    """The same manifest saved twice stays the first release."""
    store.save_release(release("a"), b"first")

    store.save_release(release("a"), b"second")

    assert len(store.releases()) == 1
    assert store.manifest(release("a").manifest) == b"first"


def test_a_manifest_signed_again_replaces_the_signatures_only(store):
    """The release stays what it was, and an unknown one does not come to be."""
    store.save_release(release("a"), b"first")

    store.renew_manifest(release("a").manifest, b"second")
    store.renew_manifest(digest_of(b"nothing"), b"third")

    assert store.manifest(release("a").manifest) == b"second"
    assert list(store.releases()) == [release("a")]
    assert store.manifest(digest_of(b"nothing")) is None


def test_unknown_manifest_is_none(store):
    """A manifest that was never saved is ``None``."""
    assert store.manifest(digest_of(b"nothing")) is None


def test_desired_is_replaced_by_a_higher_sequence(store):
    """What a target should do is the newest thing it was told."""
    store.save_desired(desired(1))

    store.save_desired(desired(2, active=digest_of(b"m")))

    assert store.desired(TargetKind.PROFILE, "raspberry-pi-4") == desired(2, active=digest_of(b"m"))
    assert len(store.all_desired()) == 1


def test_desired_never_goes_back(store):
    """A lower sequence, from a slower process, does not replace a higher one."""
    store.save_desired(desired(5))

    store.save_desired(desired(4, active=digest_of(b"m")))

    assert store.desired(TargetKind.PROFILE, "raspberry-pi-4") == desired(5)


def test_desired_is_kept_per_target(store):
    """A profile and a device of the same name are two targets."""
    store.save_desired(desired(1))
    store.save_desired(desired(2, target="coral-dev-board"))

    found = store.all_desired()

    assert [d.target for d in found] == ["coral-dev-board", "raspberry-pi-4"]
    assert store.desired(TargetKind.DEVICE, "raspberry-pi-4") is None


def test_many_desired_states_are_kept_at_once(store):
    """Several targets are told in one go; one that has been told something newer keeps it."""
    store.save_desired(desired(5, target="b"))

    store.save_desired(desired(3, target="a"), desired(4, target="b"), desired(6, target="c"), desired(2, target="a"))

    assert [(d.target, d.sequence) for d in store.all_desired()] == [("a", 3), ("b", 5), ("c", 6)]


def test_what_was_written_since_a_mark_is_found(store):
    """Whoever remembers a mark finds everything that anyone wrote after it, also of a lower sequence."""
    store.save_desired(desired(7, target="a"))
    mark = store.marks().desired
    store.save_desired(desired(5, target="b"))

    assert [d.target for d in store.all_desired(since=mark)] == ["b"]
    assert list(store.all_desired(since=store.marks().desired)) == []


def test_each_mark_moves_with_its_own_changes(store):
    """A desired state, a rollout and a new release move one mark each; a release that is known moves none."""
    before = store.marks()
    store.save_desired(desired(1))
    store.save_rollout("r1", b"one")
    store.save_rollout("r1", b"two")
    for _ in range(2):
        store.save_release(release("a"), b"signed")

    after = store.marks()

    moved = [getattr(after, n) - getattr(before, n) for n in ("desired", "rollouts", "releases")]
    assert moved == [1, 2, 1]


def test_device_is_built_from_what_was_heard(store):
    """A device has a birth, a presence and a reported state, each as last heard."""
    reported = Reported(device="pi-1", session=3, sequence=7, security_epoch=0)
    store.heard_birth(birth(3), 10.0)
    store.heard_presence("pi-1", Presence(session=3, online=True), 11.0)
    store.heard_reported(reported, 12.0)

    (device,) = store.devices()

    assert (device.birth, device.reported, device.online, device.last_seen) == (birth(3), reported, True, 12.0)


def test_late_will_of_an_older_session_changes_nothing(store):
    """A last will that arrives after the next session began does not make the device offline."""
    store.heard_birth(birth(4), 1.0)
    store.heard_presence("pi-1", Presence(session=4, online=True), 2.0)

    store.heard_presence("pi-1", Presence(session=3, online=False), 3.0)

    assert store.devices()[0].online


def test_will_of_the_same_session_ends_it(store):
    """The last will of the session that is online makes the device offline."""
    store.heard_presence("pi-1", Presence(session=4, online=True), 2.0)

    store.heard_presence("pi-1", Presence(session=4, online=False), 3.0)

    assert not store.devices()[0].online


def test_device_that_lost_its_state_is_heard_again(store):
    """A device whose session count began anew is online when it says so."""
    store.heard_presence("pi-1", Presence(session=9, online=True), 2.0)
    store.heard_presence("pi-1", Presence(session=1, online=True), 3.0)

    store.heard_presence("pi-1", Presence(session=1, online=False), 4.0)

    assert not store.devices()[0].online


def test_what_many_devices_said_is_kept_at_once(store):
    """Of each device the last of each part holds, whatever was known before and whoever is new."""
    store.heard_birth(birth(3), 1.0)
    store.heard_presence("pi-1", Presence(session=3, online=True), 1.0)
    hearings = [
        Hearing(device="pi-1", at=2.0, presence=Presence(session=2, online=False)),
        Hearing(device="pi-2", at=3.0, presence=Presence(session=1, online=True)),
        Hearing(device="pi-1", at=4.0, reported=Reported(device="pi-1", session=3, sequence=1, security_epoch=0)),
        Hearing(device="pi-2", at=5.0, birth=birth(1, "pi-2"), presence=Presence(session=1, online=False)),
        Hearing(device="pi-1", at=6.0, reported=reported("pi-1", "1 int8")),
        Hearing(device="pi-3", at=7.0, reported=reported("pi-3", "1 int8")),
    ]

    store.hear(hearings)

    found = {d.device: (d.birth, d.reported, d.online, d.last_seen) for d in store.devices()}
    assert found == {
        "pi-1": (birth(3), reported("pi-1", "1 int8"), True, 6.0),
        "pi-2": (birth(1, "pi-2"), None, False, 5.0),
        "pi-3": (None, reported("pi-3", "1 int8"), False, 7.0),
    }
    assert [(c.profile, c.devices) for c in store.model_counts()] == [(None, 1), ("raspberry-pi-4", 1)]
    assert [d.device for d in store.device_page(DeviceQuery(online=True)).devices] == ["pi-1"]


def test_a_fleet_is_heard_at_once(store):
    """More devices than one query may name, twice, are each kept once."""
    names = [f"pi-{n}" for n in range(900)]
    for at in (1.0, 2.0):
        store.hear([Hearing(device=n, at=at, birth=birth(1, n), reported=reported(n, "1 int8")) for n in names])

    assert [c.devices for c in store.model_counts()] == [900]
    assert {d.last_seen for d in store.devices()} == {2.0}


def test_what_a_device_says_is_kept_whatever_it_says(store):
    """A text with a zero character, which some databases keep in no text, holds up nobody."""
    said = {name: reported(name, label) for name, label in (("pi-1", "1\0int8"), ("pi-2", "1 int8"))}

    store.hear([Hearing(device=name, at=1.0, birth=birth(1, name), reported=r) for name, r in said.items()])

    assert {d.device: d.reported for d in store.devices()} == said


def test_device_known_by_birth_alone_is_offline(store):
    """Without any word of presence a device does not count as online."""
    store.heard_birth(birth(1), 1.0)

    assert not store.devices()[0].online


@given(numbers=st.lists(st.tuples(st.sampled_from(["pi-1", "pi-2"]), st.integers(0, 5)), max_size=12))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("kind", ["memory", "fake"])
def test_reports_are_kept_once(kind, numbers, tmp_path):
    """However often reports arrive, each is kept once, in the order of first arrival."""
    store = MAKERS[kind](tmp_path)

    accepted = [(d, n) for d, n in numbers if store.add_report(report(n, d), 1.0)]

    assert accepted == list(dict.fromkeys(numbers))
    assert [(r.device, int(r.id[1:])) for r in store.reports()] == accepted
    store.close()


def test_of_many_reports_those_that_are_new_are_told(store):
    """Reports that are known, or come twice at once, are kept once; the others come back in their order."""
    store.add_report(report(1), 1.0)

    new = store.add_reports([report(2), report(1), report(1, "pi-2"), report(2)], 2.0)

    assert [(r.device, r.id) for r in new] == [("pi-1", "r2"), ("pi-2", "r1")]
    assert [(r.device, r.id) for r in store.reports()] == [("pi-1", "r1"), ("pi-1", "r2"), ("pi-2", "r1")]
    assert store.add_reports([], 3.0) == []


def test_reports_are_read_one_by_one(store):
    """In the order of arrival, of one model, from where the reader was; also more than one page of them."""
    store.add_reports([report(n, model="digits" if n % 2 else "other") for n in range(1800)], 1.0)

    found = [r.id for r in store.each_report(model="digits", after=3)]

    assert found == [f"r{n}" for n in range(7, 1800, 2)]
    assert sum(1 for _ in store.each_report()) == 1800


def test_reports_are_found_by_model_and_device(store):
    """Reports can be asked for by model, by device and by both."""
    for number, (device, model) in enumerate(itertools.product(("pi-1", "pi-2"), ("digits", "other", None))):
        store.add_report(report(number, device, model), 1.0)

    assert [r.id for r in store.reports(model="digits")] == ["r0", "r3"]
    assert [r.id for r in store.reports(device="pi-2")] == ["r3", "r4", "r5"]
    assert [r.id for r in store.reports(model="other", device="pi-2")] == ["r4"]


def test_reports_of_every_kind_are_found_by_their_model(store):
    """Whatever part of a report names the model, the report belongs to it."""
    refusal = Refusal(code=RefusalCode.NO_MEMORY, detail="", hint="")
    parts = {
        ReportKind.SHADOW: {"shadow": ShadowedVariant(request="s", model="m", manifest="a" * 64, refusal=refusal)},
        ReportKind.MEASUREMENT: {
            "measurement": MeasuredVariant(request="m", model="m", manifest="a" * 64, measurement=None, refusal=refusal)
        },
        ReportKind.INSTALL: {
            "install": InstallOutcome(model="m", manifest="a" * 64, outcome=Outcome.REFUSED, sequence=1)
        },
        ReportKind.INCIDENT: {"incident": Incident(code=IncidentCode.FELL_BACK, detail="", model="m")},
    }
    for kind, part in parts.items():
        made = Report(id=kind.value, device="pi-1", session=1, recorded_at=1.0, kind=kind, **part)
        store.add_report(made, 1.0)

    assert [r.kind for r in store.reports(model="m")] == list(parts)
    assert set(parts) == set(ReportKind)


def test_decisions_are_numbered_and_kept(store):
    """Decisions are numbered from 1 and come back oldest first."""
    numbers = [store.append_decision("digits", b"a"), store.append_decision("other", b"b")]
    numbers.append(store.append_decision("digits", b"c"))

    assert numbers == [1, 2, 3]
    assert store.decisions("digits") == [(1, b"a"), (3, b"c")]
    assert len(store.decisions()) == 3


def test_rollout_is_replaced_in_place(store):
    """A rollout's newest state replaces the last, and keeps its place."""
    store.save_rollout("r1", b"one")
    store.save_rollout("r2", b"two")

    store.save_rollout("r1", b"three")

    assert store.rollouts() == [("r1", b"three"), ("r2", b"two")]


def test_members_are_kept_beside_their_rollout(store):
    """Only those that changed are written; they come back by lane and place, of their own rollout."""
    rows = [
        MemberRow(lane=lane, place=place, device=f"d{lane}{place}", document=b"old")
        for lane in (1, 0)
        for place in (11, 2)
    ]
    store.save_rollout("r1", b"head", rows)
    store.save_rollout("r2", b"head", [MemberRow(lane=0, place=0, device="d02", document=b"other")])

    store.save_rollout("r1", b"later", [MemberRow(lane=0, place=11, device="d011", document=b"new")])

    found = [(m.lane, m.place, m.document) for m in store.members("r1")]
    assert found == [(0, 2, b"old"), (0, 11, b"new"), (1, 2, b"old"), (1, 11, b"old")]
    assert store.rollouts() == [("r1", b"later"), ("r2", b"head")]
    assert list(store.members("r3")) == []
    assert sorted(store.memberships("d02")) == [("r1", b"old"), ("r2", b"other")]


def test_lease_has_one_holder(store):
    """A lease stays with its holder until it runs out, and can be extended by the holder only."""
    taken = store.lease("rollouts", "a", now=0.0, seconds=10)

    refused = store.lease("rollouts", "b", now=5.0, seconds=10)
    extended = store.lease("rollouts", "a", now=9.0, seconds=10)
    too_soon = store.lease("rollouts", "b", now=15.0, seconds=10)
    run_out = store.lease("rollouts", "b", now=20.0, seconds=10)

    assert [taken, refused, extended, too_soon, run_out] == ["a", "a", "a", "a", "b"]


def test_chunks_are_known_per_broker(store):
    """A chunk given to one broker is not known of another, and can be forgotten."""
    store.add_chunks("a:1883", ["x", "y", "x"])
    store.add_chunks("a:1883", ["y", "z"])
    store.add_chunks("b:1883", ["x"])

    store.forget_chunks("a:1883", ["y"])
    store.forget_chunks("b:1883")

    assert store.known_chunks("a:1883") == {"x", "z"}
    assert store.known_chunks("b:1883") == frozenset()


def test_landmarks_go_with_the_chunks_they_vouch_for(store):
    """Landmarks are kept per broker, take the place of others, and are forgotten when all chunks are."""
    store.set_landmarks("a:1883", ["c/1", "m/1"])
    store.set_landmarks("a:1883", ["c/2", "m/1"], instead_of=["c/1", "c/2", "c/3"])
    store.set_landmarks("b:1883", ["m/1"])
    store.add_chunks("a:1883", ["x"])
    store.forget_chunks("a:1883", ["x"])
    replaced = store.landmarks("a:1883")

    store.forget_chunks("b:1883")

    assert replaced == store.landmarks("a:1883") == {"c/2", "m/1"}
    assert store.landmarks("b:1883") == frozenset()


def test_publications_under_way_say_what_they_need(store):
    """What publications need is known per broker until each has ended or run out; one that ran out cannot go on."""
    one, two, three = (digest_of(text) for text in (b"1", b"2", b"3"))
    store.begin_publication("first", "a:1883", [one, two], until=10.0)
    store.begin_publication("second", "a:1883", [two, three], until=10.0)
    store.begin_publication("elsewhere", "b:1883", [one], until=10.0)
    both = store.being_published("a:1883", now=9.0)
    extended = store.extend_publication("first", until=20.0)

    first = store.being_published("a:1883", now=10.0)
    late = store.extend_publication("second", until=20.0)
    store.end_publication("first")
    store.end_publication("first")

    assert (both, extended) == ({one, two, three}, True)
    assert (first, late) == ({one, two}, False)
    assert store.being_published("a:1883", now=10.0) == frozenset()
    assert store.extend_publication("elsewhere", until=20.0)


def reported(device: str, active: str | None, refusal: Refusal | None = None) -> Reported:
    state = ModelState(
        model="digits",
        phase=Phase.CONFIRMED,
        active=active and digest_of(active.encode()),
        active_label=active,
        refusal=refusal,
    )
    return Reported(device=device, session=1, sequence=1, security_epoch=0, models=(state,))


def small_fleet(store) -> None:
    for number in range(5):
        store.heard_birth(birth(1, f"pi-{number}"), 1.0)
        store.heard_reported(reported(f"pi-{number}", "1 int8" if number % 2 else "1 float32"), 1.0)
    store.heard_presence("pi-3", Presence(session=1, online=True), 2.0)
    store.heard_presence("Odd_1", Presence(session=1, online=True), 2.0)


@pytest.mark.parametrize(
    ("query", "names"),
    [
        (DeviceQuery(), ["Odd_1", "pi-0", "pi-1", "pi-2", "pi-3", "pi-4"]),
        (DeviceQuery(search="PI-"), ["pi-0", "pi-1", "pi-2", "pi-3", "pi-4"]),
        (DeviceQuery(search="raspberry", online=True), ["pi-3"]),
        (DeviceQuery(search="odd_"), ["Odd_1"]),
        (DeviceQuery(search="d%1"), []),
        (DeviceQuery(profile="raspberry-pi-4", online=False), ["pi-0", "pi-1", "pi-2", "pi-4"]),
        (DeviceQuery(model="digits", variant="1 int8"), ["pi-1", "pi-3"]),
        (DeviceQuery(model="other"), []),
    ],
)
def test_devices_are_searched(store, query, names):
    """Name, kind, presence and variant each narrow the search; wildcards of the database mean themselves."""
    small_fleet(store)

    page = store.device_page(query)

    assert (sorted(d.device for d in page.devices), page.total) == (sorted(names), len(names))


def test_devices_come_in_pages(store):
    """Page after page holds each device once, and each says how many there are."""
    small_fleet(store)
    seen: list[str] = []

    while True:
        page = store.device_page(DeviceQuery(search="pi-", after=seen[-1] if seen else "", limit=2))
        seen += [d.device for d in page.devices]
        assert page.total == 5
        if len(page.devices) < 2:
            break

    assert seen == [f"pi-{n}" for n in range(5)]


def test_the_fleet_is_counted(store):
    """Devices per kind, and per kind what they say about a model."""
    small_fleet(store)
    store.heard_reported(
        reported("pi-4", None, Refusal(code=RefusalCode.NO_SPACE, detail="full", hint="Delete something.")), 3.0
    )

    assert list(store.profile_counts()) == [
        ProfileCount(profile=None, devices=1, online=1),
        ProfileCount(profile="raspberry-pi-4", devices=5, online=1),
    ]
    assert [(c.active_label, c.refusal, c.devices) for c in store.model_counts()] == [
        ("1 float32", None, 2),
        ("1 int8", None, 2),
        (None, "no-space", 1),
    ]


def test_one_device_is_found_by_its_name(store):
    """A device by its whole name; another name finds none."""
    small_fleet(store)

    assert store.device("pi-3") == next(d for d in store.devices() if d.device == "pi-3")
    assert store.device("pi-") is None


def test_the_newest_reports_can_be_asked_for(store):
    """Only so many of the newest, still in the order of their arrival."""
    for number in range(5):
        store.add_report(report(number), 1.0)

    assert [r.id for r in store.reports(device="pi-1", newest=2)] == ["r3", "r4"]
    assert store.reports(newest=0) == []


def test_the_audit_log_keeps_what_was_done(store):
    """Entries come back as they were, the newest of them in order."""
    entries = [
        AuditEntry(at=float(n), actor="ann", role="operator", action="rollout.pause", target=f"r{n}", outcome="done")
        for n in range(3)
    ]
    for entry in entries:
        store.add_audit(entry)

    assert list(store.audit(newest=2)) == entries[1:]


def test_tokens_are_kept_by_name(store):
    """A name is given once, and can be given again when it was taken away."""
    ann, other = (Token(name="ann", role=Role.OPERATOR, digest=d * 64, created_at=1.0) for d in "ab")

    kept = [store.save_token(ann), store.save_token(other)]
    found = list(store.tokens())
    removed = [store.remove_token("ann"), store.remove_token("ann")]

    assert (kept, found, removed) == ([True, False], [ann], [True, False])
    assert store.save_token(other)


def test_reports_are_counted(store):
    """Each report counts once, however often it comes."""
    for number in (0, 1, 1, 2):
        store.add_report(report(number), 1.0)
    store.add_report(report(3, model="other"), 1.0)

    assert (store.report_count(), store.report_count(model="other")) == (4, 1)


def test_a_batch_is_kept_whole_or_not_at_all(store):
    """What was done inside a batch that failed never happened; what is done after it is kept."""
    store.add_report(report(0), 1.0)

    def fail() -> None:
        with store.batch():
            store.add_report(report(1), 1.0)
            store.heard_birth(birth(1), 1.0)
            assert len(store.reports()) == 2
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with store.batch():
        store.add_report(report(2), 1.0)

    assert [r.id for r in store.reports()] == ["r0", "r2"]
    assert store.devices() == []


def test_a_batch_inside_a_batch_is_a_part_of_it(store):
    """What follows the inner one belongs to the outer one still, and goes with it if that fails."""

    def fail() -> None:
        with store.batch():
            with store.batch():
                store.add_report(report(1), 1.0)
            store.heard_birth(birth(1), 1.0)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()

    assert (store.reports(), store.devices()) == ([], [])


def test_threads_never_share_a_sequence(store):
    """Sequences taken by several threads at one time are all different."""
    taken: list[int] = []
    threads = [threading.Thread(target=lambda: taken.extend(store.next_sequence() for _ in range(10))) for _ in "abc"]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(taken) == list(range(1, 31))


def aged(store, count, *, model="digits"):
    """Keep one report a second and model, and one about another model beside each."""
    for number in range(count):
        store.add_reports([report(number, model=model), report(number, "pi-2", "other")], float(number))


def names(old):
    return [each.report.id for each in old if each.report.device == "pi-1"]


def test_old_reports_are_found_page_by_page(store):
    """Reports from before a time come oldest first, each page after the last; their sizes are those of what is kept."""
    aged(store, 5)
    store.add_report(report(9), 1.0)  # taken in late, by a service whose clock is behind

    first = store.old_reports(before=3.0, limit=4)
    rest = store.old_reports(before=3.0, after=first[-1], limit=4)

    assert (names(first), names(rest)) == (["r0", "r1"], ["r9", "r2"])
    assert (len(first), len(rest)) == (4, 3)
    assert {each.size_bytes for each in first} == {len(codec.encode_document(each.report)) for each in first}
    assert store.old_reports(before=3.0, after=rest[-1], limit=4) == []


def test_counts_and_places_go_on_when_old_reports_are_deleted(store):
    """Whoever has read a number of reports finds exactly those that follow, whatever was deleted of the read ones."""
    aged(store, 1000)
    old = [each for each in store.old_reports(before=700.0, limit=2000) if each.position % 3]

    removed = store.remove_reports(old, before=700.0)
    again = store.remove_reports(old, before=700.0)

    assert (len(removed), list(again)) == (len(old), [])
    assert (store.report_count(), store.report_count(model="digits")) == (2000, 1000)
    for seen in (700, 701, 999, 1000):
        found = [r.id for r in store.each_report(model="digits", after=seen)]
        assert found == [f"r{n}" for n in range(seen, 1000)]
    kept = [r.id for r in store.each_report(model="digits")]
    assert kept == [r.id for r in store.reports(model="digits")]
    assert len(kept) == 1000 - store.pruned("digits").reports


def test_the_newest_report_stays_however_old(store):
    """Places in the log are never given twice: the newest report is left, and the next one follows it."""
    aged(store, 2)

    store.remove_reports(store.old_reports(before=99.0, limit=9), before=99.0)
    left = [(r.device, r.id) for r in store.reports()]
    store.add_report(report(7), 100.0)

    assert left == [("pi-2", "r1")]
    assert (store.report_count(), store.report_count(model="digits")) == (5, 3)
    assert [r.id for r in store.each_report(model="digits", after=2)] == ["r7"]


def test_what_was_deleted_is_told_by_model(store):
    """The store says how many reports about a model went, what was old then, and which of given ones are not there."""
    aged(store, 4)
    known = [("pi-1", "r0"), ("pi-1", "r3"), ("pi-9", "r0")]
    before = (store.pruned("digits"), store.missing_reports(known))

    store.remove_reports([o for o in store.old_reports(before=2.0, limit=9) if o.report.device == "pi-1"], before=2.0)

    assert before == (None, {("pi-9", "r0")})
    assert (store.pruned("digits"), store.pruned("other")) == (Pruned(reports=2, before=2.0), None)
    assert store.missing_reports(known) == {("pi-1", "r0"), ("pi-9", "r0")}


def test_a_deletion_that_fails_deletes_and_counts_nothing(store):
    """Reports that go and the counts that stand for them change together, or neither does."""
    aged(store, 3)

    def fail() -> None:
        with store.batch():
            assert store.remove_reports(store.old_reports(before=2.0, limit=9), before=2.0)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()

    assert (store.pruned("digits"), store.report_count(model="digits"), len(store.reports())) == (None, 3, 6)
