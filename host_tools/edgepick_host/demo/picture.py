"""The Pareto picture of one profile: accuracy lost against latency, as SVG that follows the page's colours.

Points carry the numbers of the table beside the picture, so nothing depends on colour or on labels that collide.
"""

import io
import re
from collections.abc import Sequence
from typing import Any

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

Point = tuple[int, CandidateResult, float, float, float]
"""Number in the table, candidate, p50 and p95 in milliseconds, accuracy lost in points."""


def pareto_svg(name: str, candidates: Sequence[CandidateResult]) -> str:
    """Return an ``<svg>`` element; empty if fewer than two candidates have both figures.

    Args:
        name: Of the profile; makes the ids in the picture unique on the page.
        candidates: In the order of the table, which numbers them from 1.
    """
    points = [_point(number, c) for number, c in enumerate(candidates, start=1) if _drawable(c)]
    if len(points) < 2:
        return ""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    settings = {"svg.fonttype": "none", "svg.hashsalt": name, "font.family": "sans-serif", "font.size": 10}
    with mpl.rc_context(settings):
        figure = Figure(figsize=(WIDTH_INCHES, HEIGHT_INCHES), layout="constrained")
        axes = figure.add_subplot()
        _draw_frame(axes, points)
        _draw_front(axes, [p for p in points if p[1].on_front])
        for point in points:
            _draw_point(axes, point)
        drawn = io.StringIO()
        figure.savefig(drawn, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _as_part_of_a_page(drawn.getvalue(), name)


def _drawable(candidate: CandidateResult) -> bool:
    return candidate.p50_ns is not None and candidate.accuracy_drop is not None


def _point(number: int, candidate: CandidateResult) -> Point:
    p50 = (candidate.p50_ns or 0) / 1e6
    p95 = (candidate.p95_ns or candidate.p50_ns or 0) / 1e6
    return number, candidate, p50, p95, (candidate.accuracy_drop or 0.0) * 100


def _draw_frame(axes: Any, points: Sequence[Point]) -> None:
    """Leave axes with titles, a light grid, and room for the markers."""
    slowest, losses = max(p[3] for p in points), [p[4] for p in points]
    room = max(0.25, (max(losses) - min(losses)) * 0.25)
    axes.set_xlim(0, slowest * 1.1)
    axes.set_ylim(min(*losses, 0.0) - room, max(losses) + room)
    axes.set_xlabel("latency in ms: median (marker) to 95th percentile (line)", color=QUIET)
    axes.set_ylabel("accuracy lost, points", color=QUIET)
    axes.grid(visible=True, color=LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=QUIET, length=0)
    axes.spines[:].set_visible(False)


def _draw_front(axes: Any, front: Sequence[Point]) -> None:
    """Join the front's points by the steps that bound what is reachable."""
    ordered = sorted(front, key=lambda p: p[2])
    style = {"color": ACCENT, "linewidth": 1.6, "linestyle": (0, (4, 3)), "zorder": 2}
    axes.step([p[2] for p in ordered], [p[4] for p in ordered], where="post", **style)


def _draw_point(axes: Any, point: Point) -> None:
    number, candidate, p50, p95, loss = point
    chosen, excluded = candidate.standing is Standing.CHOSEN, candidate.standing is Standing.EXCLUDED
    axes.plot([p50, p95], [loss, loss], color=ACCENT if chosen else QUIET, linewidth=1.4, zorder=3)
    edge = QUIET if excluded else PAPER
    area = CHOSEN_AREA if chosen else MARKER_AREA
    axes.scatter([p50], [loss], s=area, color=FILLS[candidate.standing], edgecolors=edge, linewidths=1.2, zorder=4)
    text = {"color": QUIET if excluded else PAPER, "weight": "bold", "fontsize": 10 if chosen else 9}
    axes.annotate(str(number), (p50, loss), ha="center", va="center_baseline", zorder=5, **text)


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
