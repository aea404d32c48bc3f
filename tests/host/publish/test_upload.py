"""What leaves the host for a file: one complete form, and differences to what devices run as long as they fit."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepick_host.core.records import Device
from edgepick_host.service import archive as archives
from edgepick_host.service import recipients
from edgepick_host.service.archive import UPLOAD, Archive
from edgepick_host.service.prepare import Selection, prepare
from edgepick_host.service.recipients import Recipients
from edgepick_profiles.load import load_profile
from edgepick_wire import envelope
from edgepick_wire.ids import digest_of
from edgepick_wire.manifest import ALGORITHMS, ZSTD, Manifest
from edgepick_wire.messages import Birth, ModelState, Phase, Reported
from fakes.host_site import blob, variant, write_variants
from fakes.store import MemoryStore

PROFILE = "raspberry-pi-4"
ONE = bytes(byte & 0x7F for byte in blob(1, 90_000))
"""Seven bits in each byte: compresses to 88 %."""


def changed(content: bytes, step: int) -> bytes:
    """Return a file of the same layout with every ``step``-th number changed, by steps that nothing foretells."""
    noise = blob(step, len(content))
    return bytes((byte + noise[i] % 8) % 128 if i % step == 0 else byte for i, byte in enumerate(content))


SLIGHTLY, WIDELY = changed(ONE, 200), changed(ONE, 2)


def device(name: str, active: str | None = None, *, profile: str = PROFILE, algorithms=ALGORITHMS) -> Device:
    """Return a device as the store has heard it."""
    birth = Birth(
        device=name,
        session=1,
        profile=profile,
        agent_version="1",
        machine="m",
        system="s",
        python="3",
        runtimes=(),
        memory_bytes=1,
        disk_free_bytes=1,
        capabilities=tuple(sorted(algorithms)),
    )
    model = ModelState(model="digits", phase=Phase.CONFIRMED, active=active)
    reported = Reported(device=name, session=1, sequence=1, security_epoch=0, models=(model,))
    return Device(device=name, birth=birth, reported=reported if active else None)


@pytest.fixture
def archive(tmp_path):
    return Archive(folder=tmp_path / "archive", find_tensors=lambda _: ())


@pytest.fixture
def made(tmp_path):
    """Return a function that prepares one variant of a content as an archive has it travel."""

    def prepared(archive: Archive, content: bytes):
        folder = tmp_path / digest_of(content)[:8]
        folder.mkdir(exist_ok=True)
        write_variants(folder, [(variant("float32", content), content)])
        return prepare(folder, Selection(fleet="testers"), load_profile, now=1.0, find_forms=archive.forms)

    return prepared


def model(prepared):
    return prepared.releases[0].files[0].chunked.entry


def bases(prepared):
    return [encoding.base for encoding in model(prepared).encodings]


def uploaded(prepared) -> float:
    """Return what publishing sends of the model file, in sizes of it."""
    (release,) = prepared.releases
    golden = release.files[1].chunked.entry
    sent = [source.chunked.entry for source in release.sources if source.chunked.entry.sha256 != golden.sha256]
    return sum(entry.size + entry.index_size for entry in sent) / model(prepared).size


def test_a_file_that_compresses_is_published_compressed_only(archive, made):
    """Its own chunks stay at home, and the manifest requires what a device needs to do without them."""
    prepared = made(archive, ONE)

    (release,) = prepared.releases
    sent = {source.chunked.entry.sha256 for source in release.sources}
    assert model(prepared).sha256 not in sent
    assert {encoding.sha256 for encoding in model(prepared).encodings} <= sent
    assert release.manifest.requires == ("golden", ZSTD)
    assert uploaded(prepared) < 0.95


def test_a_file_that_does_not_compress_is_published_as_it_is(archive, made):
    """Nothing is required of a device that need not decode anything."""
    prepared = made(archive, blob(1, 90_000))

    assert prepared.releases[0].manifest.requires == ("golden",)
    assert 1 < uploaded(prepared) < UPLOAD


def test_a_small_difference_goes_besides(archive, made):
    """Where few numbers changed, compressed file and difference together are within the budget."""
    archive.keep(made(archive, ONE))

    prepared = made(archive, SLIGHTLY)

    assert bases(prepared) == [None, digest_of(ONE)]
    assert uploaded(prepared) <= UPLOAD


def test_a_large_difference_stays_at_home_unless_more_may_be_sent(archive, made):
    """Where half of the numbers changed, only a larger budget lets the difference go, and that is another manifest."""
    archive.keep(made(archive, ONE))
    before = made(archive, WIDELY)

    more = made(replace(archive, upload=2.0), WIDELY)

    assert bases(before) == [None]
    assert uploaded(before) <= UPLOAD < uploaded(more) <= 2.0
    assert bases(more) == [None, digest_of(ONE)]
    assert made(archive, WIDELY).releases[0].digest == more.releases[0].digest


@settings(max_examples=25, deadline=None)
@given(
    file=st.tuples(st.integers(1, 8), st.integers(3000, 40_000)),
    step=st.integers(1, 400),
    upload=st.floats(1.05, 3.0),
    known=st.integers(0, 3),
)
def test_no_file_takes_more_than_its_budget(tmp_path_factory, file, step, upload, known):
    """Whatever the file and whatever was published before, what is sent is within the budget, and one form is whole."""
    bits, size = file
    content = bytes(byte >> (8 - bits) for byte in blob(size, size))
    folder = tmp_path_factory.mktemp("a")
    archive = Archive(folder=folder / "archive", find_tensors=lambda _: (), upload=upload)
    versions = [changed(content, step + n) for n in range(known)]
    for number, version in enumerate([*versions, content]):
        place = write_variants(folder / str(number), [(variant("float32", version), version)])
        prepared = prepare(place, Selection(fleet="testers"), load_profile, now=1.0, find_forms=archive.forms)
        archive.keep(prepared)

        (release,) = prepared.releases
        sent = {source.chunked.entry.sha256 for source in release.sources}
        whole = [model(prepared).sha256, *(e.sha256 for e in model(prepared).encodings if e.base is None)]
        assert uploaded(prepared) <= upload
        assert sent & set(whole)


def test_a_device_that_cannot_decode_gets_the_file_as_it_is(archive, made):
    """Once the fleet is known to have such a device, the file itself is published, also if it was not before."""
    before = made(archive, ONE)
    heard = Recipients(devices=(device("pi-1"), device("old", algorithms=())))

    prepared = made(replace(archive, recipients=heard), ONE)

    assert ZSTD in before.releases[0].manifest.requires
    assert (model(prepared).encodings, prepared.releases[0].manifest.requires) == ((), ("golden",))
    assert uploaded(prepared) <= UPLOAD


def test_only_the_kinds_of_device_that_fetch_it_count(archive, made):
    """A device of another profile that cannot decode changes nothing."""
    heard = Recipients(devices=(device("elsewhere", profile="jetson-nano", algorithms=()),))

    assert bases(made(replace(archive, recipients=heard), ONE)) == [None]


@pytest.fixture
def running(archive, made):
    """Return a function: manifests that so many devices run -> an archive of that fleet, which published them all."""

    def fleet(*contents_and_devices: tuple[bytes, int]) -> Archive:
        devices, manifests = [], {}
        for content, count in contents_and_devices:
            published = made(archive, content)
            archive.keep(published)
            (release,) = published.releases
            manifests[release.digest] = release.manifest
            devices += [device(f"pi-{len(devices) + n}", release.digest) for n in range(count)]
        return replace(archive, recipients=Recipients(devices=tuple(devices), manifests=manifests), upload=3.0)

    return fleet


def test_differences_are_to_what_most_devices_run(running, made):
    """The bases are the reported files, that of the most devices first; what nobody runs is none."""
    rare, common, unused = changed(ONE, 150), changed(ONE, 180), changed(ONE, 190)
    archive = running((rare, 1), (common, 3), (unused, 0))

    prepared = made(archive, SLIGHTLY)

    assert bases(prepared) == [None, digest_of(common), digest_of(rare)]


def test_the_commonest_base_gets_what_is_left_of_the_budget(running, made):
    """Where only one difference fits, it is that of the most devices."""
    rare, common = changed(ONE, 150), changed(ONE, 180)
    archive = running((rare, 1), (common, 2))
    sizes = [e.size for e in model(made(archive, SLIGHTLY)).encodings]
    fits_one = (sizes[0] + sizes[1] + 600) / len(ONE)

    prepared = made(replace(archive, upload=fits_one), SLIGHTLY)

    assert bases(prepared) == [None, digest_of(common)]


def test_without_a_report_the_last_publication_is_the_base(running, made):
    """In a fleet that nobody has heard of, devices are taken to run what was published last."""
    archive = running((changed(ONE, 150), 0), (changed(ONE, 180), 0))

    prepared = made(archive, SLIGHTLY)

    assert bases(prepared) == [None, digest_of(changed(ONE, 180)), digest_of(changed(ONE, 150))]


def test_what_a_device_runs_is_kept_however_old(running, made):
    """A version that was followed by many others stays a base while a device reports it."""
    old = changed(ONE, 150)
    archive = running((old, 1))
    for step in range(300, 300 + archives.KEPT + 2):
        archive.keep(made(archive, changed(ONE, step)))

    assert (archive.folder / "files" / digest_of(old)).exists()
    assert digest_of(old) in bases(made(archive, SLIGHTLY))


def test_recipients_are_read_from_the_store(archive, made):
    """Births, reported states and the manifests that they name come from the host's memory; gaps in it do no harm."""
    (release,) = made(archive, ONE).releases
    store = MemoryStore()
    for each in (device("pi-1", release.digest), device("pi-2", "f" * 64)):
        store.heard_birth(each.birth, 1.0)
        store.heard_reported(each.reported, 1.0)
    store.save_release(release.release, signed(release.payload))

    found = recipients.heard(store)

    assert [d.device for d in found.devices] == ["pi-1", "pi-2"]
    assert found.manifests == {release.digest: release.manifest}
    assert isinstance(found.manifests[release.digest], Manifest)
    assert digest_of(ONE) in found.in_use()


def signed(payload: bytes) -> bytes:
    """Return a payload in an envelope that nobody signed."""
    return envelope.pack(envelope.Envelope(type=envelope.DocumentType.MANIFEST, payload=payload, signatures=()))
