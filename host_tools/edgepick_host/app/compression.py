"""Compressing a model."""

from typing import TYPE_CHECKING, cast

from edgepick_host.app.composition import PASSES, load
from edgepick_host.compress.request import CompressRequest, Say
from edgepick_host.core.variants import VariantSet

if TYPE_CHECKING:
    from edgepick_host.compress.step import Pass


COMPRESS = "edgepick_host.compress.pipeline:compress"


def compression_pass(name: str) -> "Pass":
    """Return the pass of that name.

    Raises:
        MissingExtraError: What it is built on is not installed.
    """
    return cast("Pass", load(PASSES[name], extra="compress")())


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
    return cast("VariantSet", compress(request, passes=compression_pass, say=say))
