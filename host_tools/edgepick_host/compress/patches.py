"""What a convolution or dense layer multiplies its weights with: rows of inputs. Pure numpy, channels last."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[Any]

MAX_ROWS = 16_384
"""Rows looked at per layer, spread evenly over samples and places: enough for a few hundred weights per channel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """How a convolution walks over its input.

    Attributes:
        kernel: Height and width.
        strides: Down and across.
        dilations: Down and across.
        same: The output keeps the input's size (divided by the stride); else only whole windows count.
    """

    kernel: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    same: bool = True


def windows(x: Floats, window: Window) -> Floats:
    """Return the inputs of every output place, a view where possible.

    Args:
        x: ``[N, H, W, C]``.
        window: Of the convolution.

    Returns:
        ``[N, OH, OW, C, KH, KW]``.
    """
    pads, spans = [(0, 0)], []
    for size, kernel, stride, dilation in zip(
        x.shape[1:3], window.kernel, window.strides, window.dilations, strict=True
    ):
        span = (kernel - 1) * dilation + 1
        missing = max((-(-size // stride) - 1) * stride + span - size, 0) if window.same else 0
        pads.append((missing // 2, missing - missing // 2))
        spans.append(span)
    padded = np.pad(x, [*pads, (0, 0)])
    view = np.lib.stride_tricks.sliding_window_view(padded, spans, axis=(1, 2))
    (sy, sx), (dy, dx) = window.strides, window.dilations
    return view[:, ::sy, ::sx, :, ::dy, ::dx]


def rows(places: Floats, most: int = MAX_ROWS) -> Floats:
    """Return windows of evenly spread output places, ``[R, C, KH, KW]``; which ones depends on the shape alone."""
    count = int(np.prod(places.shape[:3]))
    chosen = np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))
    return places[np.unravel_index(chosen, places.shape[:3])]
