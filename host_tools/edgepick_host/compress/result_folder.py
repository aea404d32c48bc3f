"""The folder that ``edgepick compress`` writes: complete or not there.

Everything is built in a folder beside the target and renamed into place. A folder that holds anything else than an
earlier result is never touched, unless it is asked for; then it is moved aside, not deleted. What a killed run left
beside the target goes when a later one ends well: a run holds a lock on its folder for as long as it lives.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from edgepick_host.core.search_record import PICTURE_FILE, SEARCH_FILE
from edgepick_host.core.variants import VARIANTS_FILE, VariantSet
from edgepick_host.errors import CompressionError, InputFileError
from edgepick_wire.codec import decode_document
from edgepick_wire.errors import WireError

GOLDEN_FILE = "golden.npz"
RECIPE_FILE = "recipe.json"
_STAGED = ".{name}.edgepick-"

Written = Callable[[Path], set[str]]
"""``(folder) -> names of what an earlier run wrote there``; empty for a folder that is none of ours."""


def written_variants(out: Path) -> set[str]:
    """Return what an earlier ``edgepick compress`` wrote to ``out``."""
    try:
        before = decode_document(VariantSet, (out / VARIANTS_FILE).read_bytes())
    except (OSError, WireError):
        return set()
    written = {VARIANTS_FILE, SEARCH_FILE, PICTURE_FILE, before.golden}
    return written | {variant.folder for variant in before.variants}


def check_target(out: Path, *, force: bool, written: Written = written_variants) -> None:
    """Return if a result may be written at ``out``.

    Raises:
        InputFileError: It is a file, or a folder with something else in it.
    """
    if not out.exists():
        return
    if not out.is_dir():
        raise InputFileError(f"{out}: is a file; the result is a folder", hint="Give another --out.")
    if not force and not is_replaceable(out, written):
        raise InputFileError(
            f"{out}: is not empty, and holds something else than an earlier result",
            hint="Give another --out, or --force to move that folder aside.",
        )


def is_replaceable(out: Path, written: Written = written_variants) -> bool:
    """Return whether a folder is empty or holds nothing but an earlier result."""
    present = {entry.name for entry in out.iterdir()}
    return not present or present <= written(out)


@contextlib.contextmanager
def staged(out: Path, *, force: bool, written: Written = written_variants) -> Iterator[Path]:
    """Provide an empty folder that takes the place of ``out`` when the block ends without an error.

    Raises:
        InputFileError: ``out`` may not be replaced, or nothing can be written there.
        CompressionError: The disk became full, or failed.
    """
    out = out.absolute()
    check_target(out, force=force, written=written)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=_STAGED.format(name=out.name), dir=out.parent))
    except OSError as error:
        raise InputFileError(f"{out}: cannot be written: {error.strerror}") from error
    try:
        with _locked(folder):
            yield folder
            with writing(out):
                _put_in_place(folder, out, written)
        _sweep(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def writing(out: Path) -> Iterator[None]:
    """Provide a block in which what the disk refuses is said of ``out``.

    Raises:
        CompressionError: The disk is full, or fails; what was at ``out`` is as it was.
    """
    try:
        yield
    except OSError as error:
        raise CompressionError(
            f"{out}: cannot be written: {error.strerror}", hint="Make room there, or give another --out."
        ) from error


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Provide whether the lock on a folder was to be had; it is held until the block, or this process, ends."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held = True
    except OSError:  # another run's, or a file system without locks: nothing is taken for abandoned there
        held = False
    try:
        yield held
    finally:
        os.close(handle)


def _sweep(out: Path) -> None:
    """Delete what killed runs left beside ``out``."""
    prefix = _STAGED.format(name=out.name)
    for path in [path for path in out.parent.iterdir() if path.name.startswith(prefix)]:
        with contextlib.suppress(OSError), _locked(path) as abandoned:
            if abandoned:
                shutil.rmtree(path, ignore_errors=True)


def _put_in_place(folder: Path, out: Path, written: Written) -> None:
    folder.chmod(0o755)
    for path in (*sorted(folder.rglob("*")), folder):
        _sync(path)
    if out.exists():
        ours = is_replaceable(out, written)
        aside = _free_name(out)
        out.rename(aside)
        folder.rename(out)
        if ours:
            shutil.rmtree(aside, ignore_errors=True)
    else:
        folder.rename(out)
    _sync(out.parent)


def _free_name(out: Path) -> Path:
    names = (out.with_name(f"{out.name}.before-{n}") for n in range(1, 10_000))
    return next(name for name in names if not name.exists())


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
