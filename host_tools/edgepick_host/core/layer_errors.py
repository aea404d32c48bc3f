"""Where a compressed model departs from its float model, layer by layer. Pure values."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerError:
    """How far one layer's output is from the float model's, on calibration samples.

    Attributes:
        layer: Name of the layer's output tensor in the float model.
        operator: Kind of operator, in the format's own words ("CONV_2D", "Conv").
        sqnr_db: Signal-to-quantization-noise ratio of this output in the whole compressed model, in decibels: noise of
            every layer before it included. Infinite if equal.
        alone_sqnr_db: The same of the *model's* output when only this layer is quantized; ``None`` if not measured.
            The layer with the least is the one that hurts most.
    """

    layer: str
    operator: str
    sqnr_db: float
    alone_sqnr_db: float | None = None
