"""Compressing a model."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, cast

from edgepick_host.app.composition import PASSES, TRAINING_PASSES, load
from edgepick_host.compress.request import CompressRequest, Say
from edgepick_host.core.search_record import SEARCH_FILE, SearchRecord
from edgepick_host.core.variants import VariantSet
from edgepick_host.errors import InputFileError
from edgepick_host.service.prepare import read_variants
from edgepick_wire.codec import decode_document
from edgepick_wire.errors import WireError

if TYPE_CHECKING:
    from edgepick_host.compress.executor import Executor
    from edgepick_host.compress.export_c import Exported
    from edgepick_host.compress.step import Pass
    from edgepick_host.compress.training.step import TrainingPass
    from edgepick_host.compress.work import Material


EXPORT = "edgepick_host.compress.export_c:export_c"
EXPORT_REQUEST = "edgepick_host.compress.export_c:ExportRequest"
COMPRESS = "edgepick_host.compress.pipeline:compress"
MEANS = "edgepick_host.compress.pipeline:Means"
INLINE = "edgepick_host.compress.executor:InlineExecutor"
LOCAL = "edgepick_host.compress.executor:LocalExecutor"
DASK = "edgepick_host.compress.executor_dask:DaskExecutor"


def compression_pass(name: str) -> "Pass":
    """Return the pass of that name.

    Raises:
        MissingExtraError: What it is built on is not installed.
    """
    return cast("Pass", load(PASSES[name], extra="compress")())


def training_pass(name: str) -> "TrainingPass":
    """Return the training pass of that name.

    Raises:
        MissingExtraError: What it is built on is not installed.
    """
    return cast("TrainingPass", load(TRAINING_PASSES[name], extra="train")())


def compress_model(request: CompressRequest, *, say: Say) -> VariantSet:
    """Return the variants of a float model for the profiles asked for, written to ``request.out``.

    Args:
        request: What to compress, for whom, and how good it must stay.
        say: Called with one line for a person, before each piece of work.

    Raises:
        InputFileError: A model or an archive is not what it should be; nothing was written.
        MissingExtraError: A package that compresses is not installed.
    """
    compress = load(COMPRESS, extra="compress")
    means = load(MEANS, extra="compress")(
        passes=frozenset(PASSES),
        training=frozenset(TRAINING_PASSES),
        training_passes=training_pass,
        open_executor=_open_executor,
    )
    return cast("VariantSet", compress(request, means=means, say=say))


def export_c(folder: Path, variant: str, out: Path, *, prefix: str, samples: int, force: bool, say: Say) -> "Exported":
    """Return what of a variant was written to ``out`` as C and C++ sources for a microcontroller.

    Raises:
        InputFileError: No such variant, not one for microcontrollers, or its files are not what they should be.
        CompressionError: tflite-micro does not run it as the reference kernels do.
        MissingExtraError: A package that runs it is not installed.
    """
    found = read_variants(folder)
    request = load(EXPORT_REQUEST, extra="compress")(
        folder=folder, variant=variant, out=out, prefix=prefix, samples=samples, force=force
    )
    return cast("Exported", load(EXPORT, extra="compress")(request, found, say=say))


def _open_executor(request: CompressRequest, material: "Material") -> "Executor":
    """Return what does the work: a cluster, processes of this machine, or this process."""
    scheme, _, place = request.executor.partition("://")
    if scheme == "dask":
        return cast("Executor", load(DASK, extra="dask")(place, material, compression_pass))
    workers = request.workers or os.cpu_count() or 1
    if workers == 1:
        return cast("Executor", load(INLINE, extra="compress")(material, compression_pass))
    return cast("Executor", load(LOCAL, extra="compress")(material, compression_pass, workers))


def read_search(folder: Path) -> SearchRecord:
    """Return what a run of ``edgepick compress`` tried.

    Raises:
        InputFileError: The folder holds no such record.
    """
    path = folder / SEARCH_FILE
    try:
        return decode_document(SearchRecord, path.read_bytes())
    except OSError as error:
        raise InputFileError(
            f"{path}: cannot be read: {error.strerror}", hint="Give the folder that `edgepick compress` wrote."
        ) from error
    except WireError as error:
        raise InputFileError(f"{path}: is no record of a search: {error}") from error
