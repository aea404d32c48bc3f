"""``python killed_agent.py CONFIG N RUNNERS``: ``edgepick-agent run`` that is killed at its N-th storage operation.

SIGKILL to itself, in the middle of the process and of whatever its other threads do; an operation
that writes in place is done by half before. N = 0: never. The number of operations is kept in
``operations`` beside the configuration. With RUNNERS "scripted" nothing is inferred; all else is real.
"""

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from edgepick_agent import app
from edgepick_agent.__main__ import main
from edgepick_agent.adapters.storage import FileStorage
from edgepick_wire.messages import RuntimeAvailable
from fakes.runner_launcher import ScriptedLauncher
from fakes.storage import CHANGES


class KilledStorage(FileStorage):
    """Files, and the end of the process at one of the operations on them."""

    kill_at = 0
    counter = Path()
    count = 0
    lock = threading.Lock()

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name not in CHANGES:
            return found

        def counted(*args: Any) -> None:
            with KilledStorage.lock:
                KilledStorage.count += 1
                here = KilledStorage.count == KilledStorage.kill_at
                KilledStorage.counter.write_text(str(KilledStorage.count))
            if here:
                if name == "write_at":
                    found(*args[:-1], args[-1][: len(args[-1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            found(*args)

        return counted


if __name__ == "__main__":
    KilledStorage.kill_at = int(sys.argv[2])
    KilledStorage.counter = Path(sys.argv[1]).parent / "operations"
    app.PARTS["storage"] = f"{__name__}:KilledStorage"
    if sys.argv[3] == "scripted":
        app.launcher = lambda *_: ScriptedLauncher()  # type: ignore[assignment]
        app.available_runtimes = lambda _: (RuntimeAvailable(name="litert", version="2.1"),)
    main(["run", "--config", sys.argv[1]])
