"""The Pareto picture of one profile: accuracy lost against latency, as SVG that follows the page's colours.

Where all lose the same, it shows the model's size instead, so that there is something to see.
Points carry the numbers of the table beside the picture, so nothing depends on colour or on labels that collide.
"""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgepick_host.core.pareto import pareto_front
from edgepick_host.demo.result import CandidateResult, Standing

WIDTH_INCHES, HEIGHT_INCHES = 6.4, 3.4
MARKER_AREA, CHOSEN_AREA = 200, 340
"""Square points; large enough for a two-digit number."""

# Colours that stand for the page's: each is replaced by a CSS variable after drawing.
INK, QUIET, LINE, ACCENT, PAPER, MIDDLE = "#010101", "#020202", "#030303", "#040404", "#050505", "#060606"
CSS = {
    INK: "var(--ink)",
    QUIET: "var(--quiet)",
    LINE: "var(--line)",
    ACCENT: "var(--accent)",
    PAPER: "var(--card)",
    MIDDLE: "var(--middle)",
}
FILLS = {Standing.CHOSEN: ACCENT, Standing.ELIGIBLE: MIDDLE, Standing.EXCLUDED: PAPER}

LOG_FROM = 8.0
"""Ratio of the slowest 95th percentile to the fastest median from which the axis is logarithmic."""

SAME_POINTS = 0.05
"""Accuracies closer than this, in points, are shown as equal by the table too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One candidate in the picture: its number in the table, p50 and p95 in milliseconds, and its height."""

    number: int
    standing: Standing
    p50: float
    p95: float
    height: float


def pareto_svg(name: str, candidates: Sequence[CandidateResult]) -> str:
    """Return an ``<svg>`` element; empty if fewer than two candidates have both figures.

    Args:
        name: Of the profile; makes the ids in the picture unique on the page.
        candidates: In the order of the table, which numbers them from 1.
    """
    drawable = [(number, c) for number, c in enumerate(candidates, start=1) if _drawable(c)]
    if len(drawable) < 2:
        return ""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    losses = [_loss(c) for _, c in drawable]
    by_size = max(losses) - min(losses) < SAME_POINTS
    points = [_point(number, c, by_size=by_size) for number, c in drawable]
    settings = {"svg.fonttype": "none", "svg.hashsalt": name, "font.family": "sans-serif", "font.size": 10}
    with mpl.rc_context(settings):
        figure = Figure(figsize=(WIDTH_INCHES, HEIGHT_INCHES), layout="constrained")
        axes = figure.add_subplot()
        _draw_frame(axes, points, "model size, kB" if by_size else "accuracy lost, points")
        _draw_front(axes, points)
        for point in points:
            _draw_point(axes, point)
        drawn = io.StringIO()
        figure.savefig(drawn, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _as_part_of_a_page(drawn.getvalue(), name)


def _drawable(candidate: CandidateResult) -> bool:
    return candidate.p50_ns is not None and candidate.accuracy_drop is not None


def _loss(candidate: CandidateResult) -> float:
    return (candidate.accuracy_drop or 0.0) * 100


def _point(number: int, candidate: CandidateResult, *, by_size: bool) -> Point:
    p50 = candidate.p50_ns or 0
    return Point(
        number=number,
        standing=candidate.standing,
        p50=p50 / 1e6,
        p95=(candidate.p95_ns or p50) / 1e6,
        height=candidate.size_bytes / 1e3 if by_size else _loss(candidate),
    )


def _draw_frame(axes: Any, points: Sequence[Point], title: str) -> None:
    """Leave axes with titles, a light grid, and room for the markers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    heights, medians = [p.height for p in points], [p.p50 for p in points]
    room = max(0.25, (max(heights) - min(heights)) * 0.25)
    axes.set_ylim(min(*heights, 0.0) - room * 0.5, max(heights) + room)
    slowest = max(p.p95 for p in points)
    if slowest / min(medians) > LOG_FROM:
        axes.set_xscale("log")
        axes.set_xlim(min(medians) / 1.6, slowest * 1.3)
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _position: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_xlim(0, slowest * 1.1)
    axes.set_xlabel("latency in ms: median (marker) to 95th percentile (line)", color=QUIET)
    axes.set_ylabel(title, color=QUIET)
    axes.grid(visible=True, color=LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", colors=QUIET, length=0)
    axes.spines[:].set_visible(False)


def _draw_front(axes: Any, points: Sequence[Point]) -> None:
    """Join what no other eligible point beats in both directions, by the steps that bound what is reachable."""
    running = [p for p in points if p.standing is not Standing.EXCLUDED]
    front = pareto_front([(p.p50, p.height) for p in running])
    ordered = sorted((running[place] for place in front), key=lambda p: p.p50)
    style = {"color": ACCENT, "linewidth": 1.6, "linestyle": (0, (4, 3)), "zorder": 2}
    axes.step([p.p50 for p in ordered], [p.height for p in ordered], where="post", **style)


def _draw_point(axes: Any, point: Point) -> None:
    chosen, excluded = point.standing is Standing.CHOSEN, point.standing is Standing.EXCLUDED
    axes.plot([point.p50, point.p95], [point.height] * 2, color=ACCENT if chosen else QUIET, linewidth=1.4, zorder=3)
    edge, area = QUIET if excluded else PAPER, CHOSEN_AREA if chosen else MARKER_AREA
    layer = 6 if chosen else 4
    style = {"edgecolors": edge, "linewidths": 1.2, "zorder": layer}
    axes.scatter([point.p50], [point.height], s=area, color=FILLS[point.standing], **style)
    text = {"color": QUIET if excluded else PAPER, "weight": "bold", "fontsize": 10 if chosen else 9}
    place = (point.p50, point.height)
    axes.annotate(str(point.number), place, ha="center", va="center_baseline", zorder=layer + 1, **text)


def _as_part_of_a_page(svg: str, name: str) -> str:
    """Return the ``<svg>`` element alone, with ids of its own, the page's fonts and colours, and no fixed size."""
    element = svg[svg.index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    prefix = re.sub(r"[^a-z0-9]", "-", name.lower())
    element = re.sub(r'id="([^"]+)"', rf'id="{prefix}-\1"', element)
    element = re.sub(r'(href="|url\()#', rf"\1#{prefix}-", element)
    element = re.sub(r"(<svg[^>]*?) height=\"[^\"]+\"", r"\1", element, count=1)
    element = re.sub(r"(<svg[^>]*?) width=\"[^\"]+\"", r'\1 aria-hidden="true"', element, count=1)
    for colour, variable in CSS.items():
        element = element.replace(colour, variable)
    return re.sub(r"(font: [^;\"]*?)'[^;\"]*?sans-serif", r"\1 var(--font)", element)
