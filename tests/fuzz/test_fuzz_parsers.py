"""Every fuzz target for a moment in the suite; ``make fuzz`` runs each for a minute, guided by coverage."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepick_agent.adapters.bundle_file import BundleFile
from edgepick_agent.core.packets import READ_BYTES, PacketBuffer
from edgepick_agent.errors import RefusedError
from edgepick_host.errors import InputFileError
from edgepick_host.service.bundles import verify_bundle
from fuzz.driver import mutated, names, target

every_target = pytest.mark.parametrize("name", names())


def test_there_is_a_target_for_every_parser():
    """Nothing that comes from outside is read by a parser without a target."""
    wire = {"chunks", "delta", "envelope", "manifest", "messages", "packets", "site"}

    assert set(names()) == wire | {"bundle", "config", "control", "stick", "tensors"}


@every_target
def test_the_seeds_are_well_formed_enough_to_begin_from(name):
    """Each target takes its own seeds, and an empty input."""
    made = target(name)

    for data in (*made.SEEDS, b""):
        made.one(data)
    assert made.SEEDS


@every_target
@settings(max_examples=80, deadline=None)
@given(chance=st.randoms(use_true_random=False))
def test_a_mutated_input_is_accepted_or_refused_and_nothing_else(name: str, chance: random.Random):
    """A well-formed input with anything changed in it neither crashes a parser nor breaks what it promises."""
    made = target(name)

    made.one(mutated(chance, made.SEEDS))


@every_target
@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=600))
def test_any_bytes_are_accepted_or_refused_and_nothing_else(name: str, data: bytes):
    """Bytes without any meaning do neither."""
    target(name).one(data)


def test_a_length_that_is_only_claimed_takes_no_memory():
    """A packet header that claims 256 MiB costs no more room than a few chunks."""
    buffer = PacketBuffer()
    header = b"\x30\xff\xff\xff\x7f"
    buffer.room()[: len(header)] = header
    buffer.filled(len(header))

    assert list(buffer.packets()) == []
    assert len(buffer.room()) <= READ_BYTES


def sparse(archive: bytes, name: bytes) -> bytes:
    """Return a tar archive in which one member claims gigabytes of zeros that take no room in it."""
    data = bytearray(archive)
    start = data.index(name)
    head = data[start : start + 512]
    head[156:157], head[386:398], head[398:410] = b"S", b"0" * 11 + b"\0", b"0" * 11 + b"\0"
    head[483:495] = b"7" * 11 + b"\0"
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(data[:start] + head + data[start + 512 :])


def test_a_sparse_member_of_a_bundle_is_refused(tmp_path):
    """A member that would give out gigabytes of zeros from one block is not a regular file."""
    path = tmp_path / "sparse.edgepick"
    path.write_bytes(sparse(target("bundle").SEEDS[2], b"files/model.tflite"))

    with pytest.raises(RefusedError, match="not a regular file"):
        [list(pieces) for _, _, pieces in BundleFile().files(str(path))]


def test_a_sparse_member_keeps_nobody_busy_on_the_host(tmp_path):
    """Around a signed manifest, too, it is refused before anything of it is read."""
    stick = target("stick")
    path = tmp_path / "sparse.edgepick"
    path.write_bytes(sparse(stick.SEEDS[2], b"files/model.tflite"))

    with pytest.raises(InputFileError, match="not a regular file"):
        verify_bundle(path, stick.ROOT, stick.check)
