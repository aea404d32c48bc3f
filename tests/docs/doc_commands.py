"""The commands of a page, taken from its fenced ``sh`` blocks and run as a person would run them."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"
PROGRAMS = f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin"
"""Where the commands of a page are found: ours, the user's, and mosquitto where Debian puts it."""


def commands(page: str, *, skip: int = 0, replace: Mapping[str, str] | None = None) -> str:
    """Return one script with every command of ``docs/<page>`` after the first ``skip`` blocks."""
    blocks = re.findall(r"^```sh\n(.*?)^```", (DOCS / page).read_text(), re.DOTALL | re.MULTILINE)
    script = "\n".join(blocks[skip:])
    for old, new in (replace or {}).items():
        script = script.replace(old, new)
    return f"set -eu\n{script}"


def run_script(script: str, folder: Path, *, seconds: float) -> subprocess.CompletedProcess[str]:
    """Return how ``script`` ended, run by bash in ``folder`` with our commands and mosquitto on PATH."""
    log = folder / "output.log"
    with log.open("w") as out:  # a file, because the agents in the background would hold a pipe open
        process = subprocess.Popen(
            ["bash", "-c", script],
            cwd=folder,
            env={**os.environ, "PATH": PROGRAMS},
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            process.wait(seconds)
        finally:
            _end_session(process)
    return subprocess.CompletedProcess(process.args, process.returncode, log.read_text(), "")


def _end_session(process: subprocess.Popen) -> None:
    subprocess.run(["pkill", "-TERM", "-s", str(process.pid)], check=False)
    process.wait()
