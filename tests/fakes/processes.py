"""Processes that a test started, and how they end."""

import subprocess
from typing import Any


def ended(process: "subprocess.Popen[Any]", patience_seconds: float) -> bool:
    """End a process, which has ended when this returns; ``False`` if it did not heed SIGTERM and was killed."""
    process.terminate()
    try:
        process.wait(patience_seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return False
    return True
