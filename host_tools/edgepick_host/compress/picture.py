"""``pareto.png``: what was kept for each profile, accuracy against size, the front marked."""

from collections.abc import Sequence
from io import BytesIO
from typing import Any

from edgepick_host.core.variants import Variant, VariantSet

COLUMNS = 2
PANEL_INCHES = (6.0, 3.0)
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
    slowest = max(v.host_latency_ns or 1 for v in variants)
    front = sorted((v for v in variants if profile in v.pareto), key=lambda v: (v.size_bytes, -_quality(v)))
    for variant in [v for v in variants if v not in front]:
        _draw_point(axis, variant, slowest, _REST)
    for number, variant in enumerate(front, start=1):
        _draw_point(axis, variant, slowest, _FRONT)
        axis.annotate(str(number), _place(variant), fontsize=6, xytext=(4, 4), textcoords="offset points")
    names = "\n".join(f"{number}  {variant.name}" for number, variant in enumerate(front, start=1))
    axis.text(1.02, 1.0, names, transform=axis.transAxes, va="top", fontsize=5.5)
    if found.float_accuracy is not None:
        least = 100 * (found.float_accuracy - found.max_accuracy_drop)
        axis.axhline(least, color="#c0392b", linewidth=0.8, linestyle="--")
    axis.margins(x=0.25, y=0.25)
    axis.set_title(profile, fontsize=9, loc="left")
    axis.set_xlabel("file, KiB (area: latency on this host)", fontsize=7)
    axis.set_ylabel("agreement, %" if found.float_accuracy is None else "accuracy, %", fontsize=7)
    axis.tick_params(labelsize=7)
    axis.grid(visible=True, linewidth=0.3)


def _draw_point(axis: Any, variant: Variant, slowest_ns: int, colour: str) -> None:
    x, y = _place(variant)
    axis.scatter(x, y, s=30 + 60 * variant.host_latency_ns / slowest_ns, c=colour, zorder=2 if colour == _REST else 3)


def _place(variant: Variant) -> tuple[float, float]:
    return variant.size_bytes / 1024, 100 * _quality(variant)


def _quality(variant: Variant) -> float:
    accuracy = variant.quality.accuracy
    return variant.quality.agreement if accuracy is None else accuracy
