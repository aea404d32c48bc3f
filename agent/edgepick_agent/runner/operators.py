"""The table of operators, by whatever the runtime in use offers for it."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgepick_agent import instruments
from edgepick_agent.core.profile import OperatorTable
from edgepick_agent.core.runner_spec import RunnerSpec
from edgepick_agent.runner.session import Opened

if TYPE_CHECKING:
    from edgepick_agent.runner.timing import Feeds


def table(spec: RunnerSpec, opened: Opened, feeds: "Feeds") -> OperatorTable:
    """Return where the time goes, or why that cannot be told."""
    used = opened.session.used
    profiler = instruments.OPERATORS.get(used.name)
    if profiler is None:
        return OperatorTable(method="none", reason=f"{used.name} does not tell the time of single operators")
    asked = next(choice for choice in spec.runtimes if choice.name == used.name)
    # What was measured, with whatever may take what that leaves.
    choice = replace(asked, accelerators=(used.accelerator, *asked.accelerators), threads=used.threads)
    try:
        found: OperatorTable = instruments.adapter(profiler)(Path(spec.model_path), choice, feeds)
    # Runtimes fail in ways of their own while they profile; the measurement is not worth less for it.
    except Exception as error:  # noqa: BLE001
        return OperatorTable(method="none", reason=f"{used.name} could not be profiled: {error}"[:500])
    return found
