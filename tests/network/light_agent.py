"""An agent as a process whose runners are scripted: everything of it is real but the inference.

Run as ``python -m network.light_agent CONFIG``. While the file ``hold`` lies beside the configuration,
a trial does not come to its end.
"""

import sys
from pathlib import Path
from typing import Any

from edgepick_agent import app
from edgepick_agent.__main__ import main
from edgepick_agent.core.runner_spec import RunnerMode, RunnerSpec
from edgepick_agent.ports import RunnerObservation
from edgepick_wire.messages import RuntimeAvailable
from fakes.runner_launcher import ScriptedLauncher, ScriptedProcess

CONFIG = Path(sys.argv[1])


class HeldProcess(ScriptedProcess):
    """A runner whose trial goes on while it is held."""

    def _observe(self, behaviour: str) -> RunnerObservation:
        held = self.mode is RunnerMode.MEASURE and CONFIG.with_name("hold").exists()
        return super()._observe("slow" if held else behaviour)


class HeldLauncher(ScriptedLauncher):
    """Starts them."""

    def start(self, spec: RunnerSpec, mode: RunnerMode) -> ScriptedProcess:
        made = super().start(spec, mode)
        return HeldProcess(made.spec, made.mode, made.script, made.pid)


def scripted(*_: Any) -> HeldLauncher:
    return HeldLauncher()


app.launcher = scripted  # type: ignore[assignment]
app.available_runtimes = lambda _: (RuntimeAvailable(name="litert", version="2.1"),)

if __name__ == "__main__":
    main(["run", "--config", str(CONFIG)])
