"""``pareto.png``: what was kept for each profile, accuracy against size, the front marked."""

from collections.abc import Sequence
from io import BytesIO
from typing import Any

from edgepick_host.core.variants import Variant, VariantSet

COLUMNS = 3
PANEL_INCHES = (4.6, 3.4)
_FRONT, _REST = "#1f6f8b", "#b8b8b8"


def front_picture(found: VariantSet) -> bytes:
    """Return the picture as PNG; without matplotlib, or without variants, there is none, and it is empty."""
    panels = [p for p in found.profiles if any(p in v.profiles for v in found.variants)]
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        return b""
    if not panels:
        return b""
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(PANEL_INCHES[0] * columns, PANEL_INCHES[1] * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, profile in zip(axes, panels, strict=False):
        _draw_panel(axis, profile, [v for v in found.variants if profile in v.profiles], found)
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    figure.suptitle(f"{found.model}: accuracy and size; blue is the Pareto front", fontsize=11)
    FigureCanvasAgg(figure)
    picture = BytesIO()
    figure.savefig(picture, dpi=110, metadata={"Software": None})
    return picture.getvalue()


def _draw_panel(axis: Any, profile: str, variants: Sequence[Variant], found: VariantSet) -> None:
    labelled = found.float_accuracy is not None
    for variant in sorted(variants, key=lambda v: profile in v.pareto):
        on_front = profile in variant.pareto
        value = 100 * _quality(variant)
        area = 30 + 60 * (variant.host_latency_ns / max(v.host_latency_ns or 1 for v in variants))
        axis.scatter(
            variant.size_bytes / 1024, value, s=area, c=_FRONT if on_front else _REST, zorder=3 if on_front else 2
        )
        if on_front:
            axis.annotate(variant.name, (variant.size_bytes / 1024, value), fontsize=6, xytext=(4, 4),
                          textcoords="offset points")  # fmt: skip
    if found.float_accuracy is not None:
        least = 100 * (found.float_accuracy - found.max_accuracy_drop)
        axis.axhline(least, color="#c0392b", linewidth=0.8, linestyle="--")
    axis.margins(x=0.25, y=0.25)
    axis.set_title(profile, fontsize=9, loc="left")
    axis.set_xlabel("file, KiB (area: latency on this host)", fontsize=7)
    axis.set_ylabel("accuracy, %" if labelled else "agreement, %", fontsize=7)
    axis.tick_params(labelsize=7)
    axis.grid(visible=True, linewidth=0.3)


def _quality(variant: Variant) -> float:
    accuracy = variant.quality.accuracy
    return variant.quality.agreement if accuracy is None else accuracy
