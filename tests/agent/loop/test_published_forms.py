"""A file that is published in another form only, and what a device does that cannot get anywhere with it."""

import pytest

from edgepick_agent.core import places
from edgepick_agent.core.control import Command
from edgepick_host.core import delta
from edgepick_wire.manifest import ALGORITHMS, ZSTD
from edgepick_wire.messages import Assignment, MeasureRequest, Outcome, RefusalCode
from fakes.agent_bench import Bench
from fakes.host_stand_in import Bundle, bundle, noise

OLD = noise("weights", 20_000) + bytes(10_000)
NEW = bytes((byte + (i % 500 == 0)) % 256 for i, byte in enumerate(OLD))
FULL = delta.zstd(NEW)
DELTA = delta.difference(NEW, OLD, lambda _: (), below=len(FULL))
ONE = bundle("1", model_bytes=OLD)


def second(*, whole: bytes = FULL, difference: bytes | None = None) -> Bundle:
    """Return version 2, of which the compressed form and a difference are published, and not the file itself."""
    assert DELTA is not None
    return bundle(
        "2",
        model_bytes=NEW,
        encoded=[(ZSTD, whole, None), (DELTA.algorithm, difference or DELTA.data, OLD)],
        requires=("golden", ZSTD),
    )


def device(algorithms: frozenset[str] = ALGORITHMS, *, has_base: bool = True) -> Bench:
    bench = Bench()
    bench.algorithms = algorithms
    bench.boot()
    if has_base:
        bench.host.want(bench.host.publish(ONE))
    return bench.run()


def give(bench: Bench, made: Bundle, *, measure: bool = False, max_bytes: int | None = None) -> None:
    bench.host.publish(made)
    order = (MeasureRequest(id="m-1", manifest=made.digest, max_bytes=max_bytes),) if measure else ()
    wanted = Assignment(model="digits", active=ONE.digest if measure else made.digest, measure=order)
    bench.broker.publish(bench.host.topic(), bench.host.desired(wanted))
    bench.run()


@pytest.mark.parametrize(("has_base", "size"), [(True, len(DELTA.data)), (False, len(FULL))])
def test_every_device_of_ours_gets_the_file(has_base, size):
    """With the base by the difference, without it by the compressed form: nobody needs the file's own chunks."""
    bench, made = device(has_base=has_base), second()

    give(bench, made)

    assert bench.storage.read(places.bundle_file(made.digest, "model.tflite")) == NEW
    assert size < bench.outcomes[-1].bytes_fetched < size + 2500


def test_a_useless_difference_still_leads_to_the_compressed_form():
    """Of two published forms the second is taken when the first decodes to nonsense."""
    bench, made = device(), second(difference=DELTA.data[:-40] + bytes(40))

    give(bench, made)

    assert bench.outcomes[-1].outcome is Outcome.CONFIRMED


def test_a_device_that_cannot_decode_says_so_at_once():
    """Without the required algorithm nothing is fetched; the refusal names it and a way out."""
    bench, made = device(frozenset()), second()

    give(bench, made)

    refusal = bench.outcomes[-1].refusal
    assert refusal.code is RefusalCode.UNKNOWN_REQUIREMENT
    assert ZSTD in refusal.detail
    assert "--plain" in refusal.hint
    assert bench.outcomes[-1].bytes_fetched == 0


def test_forms_that_all_prove_useless_are_a_refusal():
    """Where nothing published decodes to the right file, the device says so instead of waiting for chunks for ever."""
    bench, made = device(), second(whole=delta.zstd(OLD), difference=DELTA.data[:-40] + bytes(40))

    give(bench, made)

    assert bench.outcomes[-1].refusal.code is RefusalCode.DIGEST_MISMATCH
    assert bench.incidents == []
    assert bench.model().active == ONE.digest
    assert list(bench.storage.names(places.DOWNLOADS)) == []


def test_a_stick_needs_no_decoder():
    """In a bundle file every file lies as it is: a device that cannot decode installs from it."""
    bench, made = device(frozenset()), second()
    bench.reader.files_at["/stick"] = made

    reply = bench.ask(Command.INSTALL, path="/stick")
    bench.run()

    assert reply.ok, reply.refusal
    assert bench.storage.read(places.bundle_file(made.digest, "model.tflite")) == NEW


@pytest.mark.parametrize("missing", [1, 50])
def test_measuring_keeps_to_the_budget_too(missing):
    """What would take too many bytes is not measured: a refusal before the first chunk says how many too many."""
    bench, made = device(), second()
    needed = len(DELTA.data) + made.content.files[0].encodings[1].index_size

    give(bench, made, measure=True, max_bytes=needed - missing)

    (measured,) = bench.measured
    assert measured.refusal.code is RefusalCode.NO_BUDGET
    assert f"{missing} more than the {needed - missing} " in measured.refusal.detail
    assert list(bench.storage.names(places.DOWNLOADS)) == []


def test_a_budget_that_suffices_lets_it_be_measured():
    """To the byte: what just fits into the budget is fetched and measured."""
    bench, made = device(), second()
    needed = len(DELTA.data) + made.content.files[0].encodings[1].index_size

    give(bench, made, measure=True, max_bytes=needed)

    (measured,) = bench.measured
    assert measured.refusal is None
    assert measured.measurement is not None


def test_a_larger_budget_has_it_measured_after_all():
    """What was too dear is measured once a newer desired state allows more, and is said once until then."""
    bench, made = device(), second()
    give(bench, made, measure=True, max_bytes=10)
    give(bench, made, measure=True, max_bytes=10)
    bench.cut_power()
    bench.boot().run()
    refused = [measured.refusal.code for measured in bench.measured]

    give(bench, made, measure=True, max_bytes=5000)

    assert refused == [RefusalCode.NO_BUDGET]
    assert bench.measured[-1].measurement is not None
