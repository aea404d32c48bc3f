"""The smallest way that a device can go, and what it does when that way leads nowhere."""

import pytest

from edgepick_agent.core import places
from edgepick_host.core import delta
from edgepick_wire.manifest import ALGORITHMS, ALIGNED, BSDIFF, ZSTD
from edgepick_wire.messages import Assignment, Outcome, RefusalCode
from fakes.agent_bench import Bench
from fakes.host_stand_in import Bundle, bundle, noise

OLD = noise("weights", 30_000)
NEW = bytes((byte + (i % 50 == 0)) % 256 for i, byte in enumerate(OLD[:29_000])) + bytes(1000)
ONE = bundle("1", model_bytes=OLD)
DELTA = delta.difference(NEW, OLD, lambda _: (), below=len(NEW))
FULL = delta.zstd(NEW)


def second(*, damage: bool = False, base: bytes = OLD) -> Bundle:
    """Return version 2, also as a difference to version 1 and compressed whole."""
    assert DELTA is not None
    data = DELTA.data[:-40] + bytes(40) if damage else DELTA.data
    return bundle(
        "2", model_bytes=NEW, encoded=[(DELTA.algorithm, data, base), (ZSTD, FULL, None), ("unheard-of", b"x", None)]
    )


def device(algorithms: frozenset[str] = ALGORITHMS) -> Bench:
    """Return a device that has confirmed version 1."""
    bench = Bench()
    bench.algorithms = algorithms
    bench.boot()
    bench.host.want(bench.host.publish(ONE))
    return bench.run()


def installed(bench: Bench, made: Bundle) -> bytes | None:
    return bench.storage.read(places.bundle_file(made.digest, "model.tflite"))


def give(bench: Bench, made: Bundle, max_bytes: int | None = None) -> None:
    bench.host.publish(made)
    wanted = Assignment(model="digits", active=made.digest, max_bytes=max_bytes)
    bench.broker.publish(bench.host.topic(), bench.host.desired(wanted))
    bench.run()


def test_a_device_that_has_the_base_takes_the_difference():
    """It fetches the difference only, ends up with the whole file, and leaves nothing behind."""
    bench, made = device(), second()

    give(bench, made)

    assert installed(bench, made) == NEW
    assert bench.outcomes[-1].outcome is Outcome.CONFIRMED
    assert bench.outcomes[-1].bytes_fetched == len(DELTA.data) + made.content.files[0].encodings[0].index_size
    assert list(bench.storage.names(places.DOWNLOADS)) == []


@pytest.mark.parametrize(
    ("algorithms", "size"),
    [(frozenset({ZSTD}), len(FULL)), (frozenset(), len(NEW))],
)
def test_a_device_takes_what_it_can_decode(algorithms, size):
    """Without the algorithm of the difference it takes the compressed file, without any the file as it is."""
    bench, made = device(algorithms), second()

    give(bench, made)

    assert installed(bench, made) == NEW
    assert size <= bench.outcomes[-1].bytes_fetched < size * 1.07 + 96


def test_a_device_without_the_base_takes_the_compressed_file():
    """A difference to a file that is not there is no way to go."""
    bench, made = device(), second(base=b"something else")

    give(bench, made)

    assert installed(bench, made) == NEW
    assert len(FULL) < bench.outcomes[-1].bytes_fetched < len(FULL) * 1.07 + 96


def test_a_useless_difference_is_followed_by_the_compressed_file():
    """Chunks that are signed and whole but decode to nonsense cost bytes, never a wrong file."""
    bench, made = device(), second(damage=True)

    give(bench, made)

    assert installed(bench, made) == NEW
    assert bench.outcomes[-1].outcome is Outcome.CONFIRMED
    assert bench.outcomes[-1].bytes_fetched > len(FULL) + len(DELTA.data)
    assert any("did not decode to the right file" in line for line in bench.log)


def test_the_way_back_to_the_whole_file_keeps_to_the_budget():
    """What was fetched in vain counts: with no bytes left for the whole file it is refused, version 1 goes on."""
    bench, made = device(), second(damage=True)

    give(bench, made, max_bytes=len(FULL))

    assert bench.outcomes[-1].refusal.code is RefusalCode.NO_BUDGET
    assert bench.model().active == ONE.digest
    assert bench.outcomes[-1].bytes_fetched <= len(FULL)


@pytest.mark.parametrize("max_bytes", [0, 100])
def test_nothing_is_fetched_that_is_over_the_budget_from_the_start(max_bytes):
    """A budget below the smallest way is a refusal before the first chunk."""
    bench, made = device(), second()

    give(bench, made, max_bytes=max_bytes)

    assert bench.outcomes[-1].refusal.code is RefusalCode.NO_BUDGET
    assert bench.outcomes[-1].bytes_fetched == 0


def test_a_budget_that_suffices_for_the_difference_is_kept():
    """The difference fits where the whole file would not."""
    bench, made = device(), second()

    give(bench, made, max_bytes=len(DELTA.data) + 2000)

    assert bench.outcomes[-1].outcome is Outcome.CONFIRMED


def test_a_power_cut_while_fetching_goes_on_with_the_same_difference():
    """What was fetched of a difference is there after a power cut."""
    bench, made = device(), second()
    bench.host.publish(made, without=0)
    bench.host.want(made)
    bench.turn()

    bench.cut_power()
    bench.boot().run()

    assert installed(bench, made) == NEW
    assert bench.outcomes[-1].bytes_fetched <= len(DELTA.data) + 500


def test_the_space_for_decoding_is_counted():
    """A disk that holds the difference but not the file beside it refuses before the first chunk."""
    bench, made = device(), second()
    used = sum(map(len, bench.storage.files.values()))
    bench.storage.capacity = used + 4 * 1024 * 1024 + len(DELTA.data) + 5000

    give(bench, made)

    assert bench.outcomes[-1].refusal.code is RefusalCode.NO_SPACE
    assert bench.outcomes[-1].bytes_fetched == 0


def test_the_difference_is_far_smaller():
    """The pair of this file is a real difference, or the tests above would show nothing."""
    assert DELTA.algorithm in {ALIGNED, BSDIFF}
    assert len(DELTA.data) < len(FULL) / 4
