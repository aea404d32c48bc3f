"""Publishing against a broker in memory that can go away in the middle."""

from dataclasses import dataclass, field

import pytest

from edgepick_host import app
from edgepick_host.app.trust import succession_of
from edgepick_host.errors import UnreachableError, VerificationError
from edgepick_host.service.prepare import Selection, prepare, prepare_file, read_chunks
from edgepick_host.service.publisher import Activation, Publisher, plan_publication
from edgepick_host.service.targets import Targets
from edgepick_profiles.load import load_profile
from edgepick_wire.manifest import RuntimeChoice, RuntimeName
from fakes.host_broker import MemoryBroker
from fakes.host_site import FLEET, blob, variant, write_variants
from fakes.store import MemoryStore

PLACE = "broker:1883"


@dataclass
class Press:
    """A publisher with everything in memory but the files."""

    site: object
    broker: MemoryBroker = field(default_factory=MemoryBroker)
    store: MemoryStore = field(default_factory=MemoryStore)
    progress: list = field(default_factory=list)

    def prepare(self, folder, **selection):
        return prepare(folder, Selection(fleet=FLEET, **selection), load_profile, now=1.0)

    def publish(self, prepared, activation=Activation(), **more):  # noqa: B008 - a frozen value
        settings = self.site.settings()
        sign = app.sign_document(settings)
        targets = Targets(fleet=FLEET, broker=self.broker, store=self.store, sign=sign, clock=app.clock())
        return Publisher(
            fleet=FLEET,
            broker=self.broker,
            place=PLACE,
            store=self.store,
            sign=sign,
            succession=succession_of(settings, self.broker, self.store),
            targets=targets,
            clock=app.clock(),
            on_progress=self.progress.append,
        ).publish(prepared, activation, **more)

    def sent(self, level: str) -> list[str]:
        return [t for t, _ in self.broker.published if t.split("/")[3] == level]


def test_order_of_publication(site, variants):
    """Chunks go before manifests, manifests before the root document, and desired state last."""
    press = Press(site)

    press.publish(press.prepare(variants))

    levels = [topic.split("/")[3] for topic, _ in press.broker.published]
    assert levels == sorted(levels, key=["c", "m", "root", "p"].index)
    assert len(set(press.sent("c"))) == len(press.sent("c"))


@pytest.mark.parametrize(
    ("selection", "published"),
    [
        ({}, {"small"}),
        ({"everything": True}, {"small", "beaten"}),
        ({"variants": ("beaten",)}, {"beaten"}),
        ({"profiles": ("raspberry-pi-5",)}, {"small"}),
    ],
)
def test_what_another_variant_beats_stays_at_home(site, tmp_path, selection, published):
    """Without a word, the variants on a Pareto front are published; all or a beaten one only when asked for."""
    both = ("raspberry-pi-4", "raspberry-pi-5")
    made = [
        (variant("small", b"s" * 100, profiles=both, pareto=both), b"s" * 100),
        (variant("beaten", b"b" * 200, profiles=both), b"b" * 200),
    ]
    folder = write_variants(tmp_path / "v", made)

    prepared = Press(site).prepare(folder, **selection)

    assert {release.manifest.variant for release in prepared.releases} == published


def test_interrupted_publication_goes_on(site, variants):
    """After the broker went away, only what it had not acknowledged is sent; devices were told nothing."""
    press = Press(site)
    prepared = press.prepare(variants)
    press.broker.lives_for = 3
    with pytest.raises(UnreachableError):
        press.publish(prepared)
    told = press.sent("p")
    press.broker.lives_for = None
    press.broker.retains[f"edgepick/1/{FLEET}/root"] = app.read_root(site.settings())[1]

    done = press.publish(prepared)

    assert told == []
    assert sum(v.chunks_known for v in done.variants) >= 3
    assert len(set(press.sent("c"))) == len(press.sent("c"))


def test_progress_counts_every_new_byte(site, variants):
    """Progress ends at the number of bytes that were sent, and never falls."""
    press = Press(site)

    done = press.publish(press.prepare(variants))

    counts = [p.done_bytes for p in press.progress]
    assert counts == sorted(counts)
    assert counts[-1] == press.progress[-1].total_bytes == done.bytes_sent
    assert done.bytes_sent == sum(len(p) for t, p in press.broker.published if t.split("/")[3] == "c")


def test_republish_sends_everything(site, variants):
    """With ``republish`` known chunks are sent again."""
    press = Press(site)
    first = press.publish(press.prepare(variants))

    second = press.publish(press.prepare(variants), republish=True)

    assert second.bytes_sent == first.bytes_sent


def test_dry_run_foretells(site, variants):
    """A plan says the bytes, manifests and targets that publishing then has."""
    press = Press(site)
    prepared = press.prepare(variants)

    plan = plan_publication(prepared, Activation(), press.store, fleet=FLEET, place=PLACE)
    done = press.publish(prepared)

    assert (plan.bytes_sent, plan.variants) == (done.bytes_sent, done.variants)
    assert [(t.target, t.active, t.measure) for t in plan.targets] == [
        (t.target, t.active, t.measure) for t in done.targets
    ]


@pytest.mark.parametrize(
    ("activate", "active"),
    [("auto", "static_wi8_ai8"), ("none", None), ("float32", "float32")],
)
def test_activation(site, variants, activate, active):
    """What a profile that runs nothing is told to run: the best, nothing, or what was named."""
    press = Press(site)

    done = press.publish(press.prepare(variants), Activation(activate=activate))

    names = {v.manifest: v.variant for v in done.variants}
    pi4 = next(t for t in done.targets if t.target == "raspberry-pi-4")
    assert names.get(pi4.active) == active


def test_second_version_waits_for_a_rollout(site, variants):
    """A new version is measured, while what runs goes on running."""
    press = Press(site)
    first = press.publish(press.prepare(variants, version="1"))

    second = press.publish(press.prepare(variants, version="2"))

    active = {t.target: t.active for t in first.targets}
    assert {t.target: t.active for t in second.targets} == active
    assert [v.chunks_new for v in second.variants] == [0, 0]
    assert {v.manifest for v in first.variants}.isdisjoint(v.manifest for v in second.variants)
    assert all(t.changed for t in second.targets)


def test_releases_are_kept_with_rank(site, variants):
    """The store holds every release with its rank and signed manifest."""
    press = Press(site)

    press.publish(press.prepare(variants, version="1", security_epoch=2))

    found = [(r.variant, r.rank, r.version, r.security_epoch) for r in press.store.releases("digits")]
    assert found == [("static_wi8_ai8", 0, "1", 2), ("float32", 1, "1", 2)]
    assert all(press.store.manifest(r.manifest) for r in press.store.releases())


def test_one_file_is_a_release(site, tmp_path):
    """A single large file can be published as it is, chunk by chunk."""
    path = tmp_path / "large.bin"
    path.write_bytes(blob(7, 1_000_000))
    press = Press(site)
    prepared = prepare_file(
        path,
        fleet=FLEET,
        model="large",
        version="1",
        profiles=["generic-linux"],
        runtimes=[RuntimeChoice(name=RuntimeName.LITERT)],
    )

    done = press.publish(prepared)

    assert done.variants[0].chunks_new == 16 + 1
    assert done.targets[0].active == done.variants[0].manifest


def test_file_that_changes_meanwhile_is_refused(site, variants):
    """A file that is altered between reading and sending stops the publication."""
    press = Press(site)
    prepared = press.prepare(variants)
    path = variants / "float32" / "float32.tflite"
    path.write_bytes(bytes(150_000))

    source = next(f for r in prepared.releases for f in r.files if f.path == path)

    with pytest.raises(VerificationError, match="changed"):
        list(read_chunks(source))
