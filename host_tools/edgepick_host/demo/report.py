"""The demo's report: one HTML file that needs nothing else, from a :class:`DemoResult`."""

import os
import tempfile
from pathlib import Path

from edgepick_host.demo import quantities
from edgepick_host.demo.picture import pareto_svg
from edgepick_host.demo.result import DemoResult, problems

TEMPLATE = "report.html.j2"
FILTERS = {
    "size": quantities.size_text,
    "latency": quantities.latency_text,
    "energy": quantities.energy_text,
    "percent": quantities.share_text,
    "drop": quantities.drop_text,
    "times": quantities.times_text,
    "pace": quantities.pace_text,
    "duration": quantities.seconds_text,
}


def render_report(result: DemoResult) -> str:
    """Return the report as HTML; everything in it that came from a device is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("edgepick_host.demo"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= FILTERS
    # The pictures are made here, from numbers and numbers only.
    pictures = {p.profile: Markup(pareto_svg(p.profile, p.candidates)) for p in result.profiles}  # noqa: S704
    page = environment.get_template(TEMPLATE)
    return page.render(result=result, pictures=pictures, problems=problems(result))


def write_report(result: DemoResult, path: Path) -> None:
    """Leave the report at ``path``, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(handle, "w", encoding="utf-8") as file:  # noqa: PTH123 - an open descriptor
            file.write(render_report(result))
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
