"""An interpreter for runners that does what its user says before anything else, as ``[runner] python`` allows."""

import sys
from pathlib import Path

STUCK = 77.0
"""The first value of an input that gets a runner stuck."""

STUCK_WITH_THE_LOCK = f"""
import ctypes
from edgepick_agent.adapters.tflite_session import TfliteSession

def run(session, feeds, run=TfliteSession.run):
    if next(iter(feeds.values())).flat[0] == {STUCK}:
        ctypes.PyDLL(None).sleep(3600)
    return run(session, feeds)

TfliteSession.run = run
"""
"""A runtime that neither returns nor lets any other thread of the process run."""


def odd_python(folder: Path, first: str) -> str:
    """Return the path of an interpreter that runs the program ``first`` when it starts."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(first)
    path = folder / "python"
    path.write_text(f'#!/bin/sh\nPYTHONPATH="$PYTHONPATH:{folder}" exec "{sys.executable}" "$@"\n')
    path.chmod(0o755)
    return str(path)
