"""Decoding on the device: right for whatever a host encodes, bounded and harmless for everything else."""

import io
import struct
import subprocess
import sys

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepick_agent import decode
from edgepick_agent.adapters import decoder
from edgepick_agent.ports import UndecodedError
from edgepick_host.core import delta
from edgepick_host.core.delta import Encoded, Tensor
from edgepick_wire.manifest import ALGORITHMS, ALIGNED, BSDIFF, ZSTD

contents = st.binary(min_size=1, max_size=3000) | st.binary(min_size=1, max_size=40).map(lambda b: b * 300)


@st.composite
def edited(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """Return two files that have much in common, or nothing."""
    base = draw(contents)
    if draw(st.booleans()):
        return base, draw(contents)
    target = bytearray(base)
    for _ in range(draw(st.integers(0, 5))):
        at = draw(st.integers(0, len(target)))
        target[at : at + draw(st.integers(0, 20))] = draw(st.binary(max_size=20))
    return base, bytes(target) or b"x"


def tensors(data: bytes) -> list[Tensor]:
    """Return three made-up tensors of one width each, at odd places."""
    size = len(data) // 4
    return [Tensor(str(w), i * size + i % 2, max(0, size - 2), w) for i, w in enumerate((1, 2, 4))] if size > 4 else []


def made_again(made: Encoded, size: int, base: bytes) -> bytes:
    needed = None if made.algorithm == ZSTD else io.BytesIO(base)
    return b"".join(decode.pieces(made.algorithm, size, io.BytesIO(made.data), needed))


@settings(deadline=None)
@given(edited())
def test_every_difference_decodes_to_the_target(pair):
    """Whatever two files are, each way of encoding one by the other gives it back, on the host and on the device."""
    base, target = pair

    for made in delta.candidates(target, base, tensors).values():
        assert delta.decoded(made, base) == target
        assert made_again(made, len(target), base) == target


@given(contents)
def test_a_compressed_file_decodes_to_itself(target):
    """A file compressed whole comes back."""
    made = Encoded(algorithm=ZSTD, data=delta.zstd(target))

    assert made_again(made, len(target), b"") == target


def test_large_words_cross_blocks():
    """Blocks of words end where the protocol says, also in a file of many blocks and an odd end."""
    base = b"".join(struct.pack("<e", i % 800 / 7) for i in range(100_001)) + b"!"
    target = b"".join(struct.pack("<e", i % 800 / 7.001) for i in range(100_001)) + b"?"

    for name, made in delta.candidates(target, base, lambda _: ()).items():
        assert made_again(made, len(target), base) == target, name


@settings(deadline=None)
@given(edited(), st.sampled_from(sorted(ALGORITHMS)), st.data())
def test_damage_ends_in_an_error_or_in_other_bytes_never_in_more(pair, algorithm, data):
    """A damaged or made-up input gives an error or a file of exactly the size asked for; its digest then decides."""
    base, target = pair
    found = {made.algorithm: made for made in delta.candidates(target, base, lambda _: ()).values()}
    found[ZSTD] = Encoded(algorithm=ZSTD, data=delta.zstd(target))
    sound = bytearray(found[algorithm].data)
    at = data.draw(st.integers(0, len(sound) - 1))
    sound[at : at + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))

    try:
        result = made_again(Encoded(algorithm=algorithm, data=bytes(sound)), len(target), base)
    except decode.DecodeError:
        return

    assert len(result) == len(target)


@given(st.sampled_from([ALIGNED, ZSTD, BSDIFF, "unheard-of"]), st.binary(max_size=300), st.integers(1, 5000))
def test_noise_is_refused(algorithm, noise, size):
    """Bytes that nobody encoded are refused, wrapped in a sound frame or not."""
    wrapped = zstandard.ZstdCompressor().compress(noise) if algorithm == ALIGNED else noise

    with pytest.raises(decode.DecodeError):
        made_again(Encoded(algorithm=algorithm, data=wrapped), size + len(noise), b"base")


def test_a_bomb_stops_at_the_size_of_the_file():
    """A frame that unpacks to a gigabyte is left after the bytes that the manifest names."""
    bomb = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(64 * 1024 * 1024))

    with pytest.raises(decode.DecodeError, match="more than 1000 bytes"):
        made_again(Encoded(algorithm=ZSTD, data=bomb), 1000, b"")


def test_the_process_decodes_what_the_module_does(tmp_path):
    """The decoder's process gives the file in pieces, and its complaint for a wrong base."""
    base, target = bytes(range(256)) * 3000, bytes(reversed(range(256))) * 3000
    made = delta.difference(target, base, lambda _: (), below=len(target))
    (tmp_path / "encoded").write_bytes(made.data)
    (tmp_path / "base").write_bytes(base)
    (tmp_path / "short").write_bytes(base[:10])

    right = b"".join(decoder.decode(made.algorithm, len(target), tmp_path / "encoded", tmp_path / "base"))

    assert right == target
    with pytest.raises(UndecodedError, match=made.algorithm):
        list(decoder.decode(made.algorithm, len(target), tmp_path / "encoded", tmp_path / "short"))
    with pytest.raises(UndecodedError):
        list(decoder.decode(made.algorithm, len(target), tmp_path / "encoded", tmp_path / "nowhere"))


def test_decoding_takes_bounded_memory(tmp_path):
    """The process's memory does not grow with the file: 96 MiB come out of far less than that."""
    target = bytes(range(256)) * (96 * 4096)
    (tmp_path / "encoded").write_bytes(delta.zstd(target, 1))
    code = (
        "import re,sys;from edgepick_agent import decode;"
        f"decode.main(['zstd','{len(target)}',r'{tmp_path / 'encoded'}']);"
        "sys.stderr.write(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])"
    )

    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=True)

    assert int(done.stderr) * 1024 < len(target) / 2


def test_what_can_be_decoded_follows_the_packages(monkeypatch):
    """Without zstandard only bsdiff is left, without numpy only zstd: nothing is promised that would fail."""
    find = decoder.importlib.util.find_spec
    everything = decoder.algorithms()
    monkeypatch.setattr(decoder.importlib.util, "find_spec", lambda name: None if name == "zstandard" else find(name))
    without_zstandard = decoder.algorithms()
    monkeypatch.setattr(decoder.importlib.util, "find_spec", lambda name: None if name == "numpy" else find(name))

    assert everything == ALGORITHMS
    assert without_zstandard == {BSDIFF}
    assert decoder.algorithms() == {ZSTD}
