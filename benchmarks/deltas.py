"""Deltas of real pairs: the demo's model fine-tuned and quantized again, against what others would send.

    python benchmarks/deltas.py

Compresses both trainings of the demo's model with `edgepick compress`, as int8 and as float16, and a
float32 pair besides; prints the bytes that each way takes and what `edgepick publish` chooses.
"""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import bsdiff4
import zstandard

import edgepick_host.demo
from edgepick_host.compress.tflite_layout import find_tensors
from edgepick_host.core import delta
from edgepick_host.service.archive import Archive
from edgepick_host.service.prepare import PreparedRelease, Selection, prepare
from edgepick_profiles.load import load_profile

DATA = Path(edgepick_host.demo.__file__).parent / "data"
RECIPES = ("float32", "float16", "dynamic_wi8_afp32", "static_wi8_ai8")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two versions of one variant, and what each way of sending the second takes, in bytes."""

    variant: str
    plain: int
    zstd: int
    bsdiff: int
    patch_from: int
    ours: int
    made_by: str
    chosen: str
    chosen_bytes: int
    sent_bytes: int
    """What the host sends once for the second version by default: one complete form, and a difference if it fits."""


def compare(variant: str, base: bytes, target: bytes, sent_bytes: int) -> Pair:
    """Return the sizes for one pair."""
    whole = len(delta.zstd(target))
    found = delta.candidates(target, base, find_tensors)
    ours = min((name for name in found if name != "bsdiff"), key=lambda name: len(found[name].data))
    full = delta.compressed(target)
    best = len(full.data) if full else len(target)
    chosen = delta.difference(target, base, find_tensors, below=best)
    return Pair(
        variant=variant,
        plain=len(target),
        zstd=whole,
        bsdiff=len(bsdiff4.diff(base, target)),
        patch_from=patch_from(base, target),
        ours=len(found[ours].data),
        made_by=ours,
        chosen=chosen.algorithm if chosen else ("zstd" if full else "plain"),
        chosen_bytes=len(chosen.data) if chosen else best,
        sent_bytes=sent_bytes,
    )


def patch_from(base: bytes, target: bytes) -> int:
    """Return what `zstd -19 --patch-from` makes: the base as a raw dictionary."""
    dictionary = zstandard.ZstdCompressionDict(base, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    settings = zstandard.ZstdCompressionParameters.from_level(
        19, source_size=len(target), dict_size=len(base), enable_ldm=True
    )
    return len(zstandard.ZstdCompressor(dict_data=dictionary, compression_params=settings).compress(target))


def pairs(folder: Path) -> list[Pair]:
    """Return the comparison of every variant that both trainings have."""
    old, new = (_compressed(folder / name, name) for name in ("digits", "digits_v2"))
    sent = _sent(folder / "archive", old, new)
    found = []
    for before in sorted(old.glob("*/model.tflite")):
        after = new / before.relative_to(old)
        if after.exists():
            name = before.parent.name
            found.append(compare(name, before.read_bytes(), after.read_bytes(), sent[name]))
    return found


def _sent(archive: Path, *versions: Path) -> dict[str, int]:
    """Return what publishing the last version takes for each model file, with the indexes of chunks; bytes."""
    kept = Archive(folder=archive, find_tensors=find_tensors)
    for version in versions:
        selection = Selection(fleet="bench", everything=True)
        prepared = prepare(version, selection, load_profile, now=0.0, find_forms=kept.forms)
        kept.keep(prepared)
    return {release.manifest.variant: _published(release) for release in prepared.releases}


def _published(release: PreparedRelease) -> int:
    model = replace(release.manifest, files=release.manifest.files[:1], golden=None)
    return sum(form.size + form.index_size for form in model.published)


def _compressed(out: Path, name: str) -> Path:
    recipes = [word for recipe in RECIPES for word in ("--recipe", recipe)]
    command = [
        *(sys.executable, "-m", "edgepick_host", "compress", str(DATA / f"{name}.tflite"), "--name", "digits"),
        *("--calibration", str(DATA / "calibration.npz"), "--evaluation", str(DATA / "evaluation.npz")),
        *("--profile", "generic-linux", "--out", str(out), *recipes),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return out


def table(found: Sequence[Pair]) -> str:
    """Return the figures of all pairs as text."""
    columns = (
        "variant",
        "plain",
        "zstd",
        "bsdiff",
        "patch-from",
        "ours",
        "made by",
        "chosen",
        "bytes",
        "of plain",
        "sent",
    )
    rows = [
        (
            *(p.variant, *map(str, (p.plain, p.zstd, p.bsdiff, p.patch_from, p.ours)), p.made_by, p.chosen),
            *(str(p.chosen_bytes), f"{p.chosen_bytes / p.plain:.1%}", f"{p.sent_bytes / p.plain:.1%}"),
        )
        for p in found
    ]
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    return "\n".join("  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in (columns, *rows))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        print(table(pairs(Path(folder))))
