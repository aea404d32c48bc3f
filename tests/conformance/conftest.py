import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parent.parent
TOY = (sys.executable, str(TESTS / "fakes" / "toy_agent.py"))


@dataclass(frozen=True)
class Kit:
    """Runs the kit as a person does, through a broker of the tests."""

    broker: str

    def command(self, *words: str, timeout: str = "60") -> list[str]:
        """Return the command line that runs the kit."""
        kit = (sys.executable, "-m", "edgepick_host", "conformance", "run")
        return [*kit, "--broker", self.broker, "--timeout", timeout, *words]

    def environment(self) -> dict[str, str]:
        """Return the environment in which the toy agent finds its parts."""
        return {**os.environ, "PYTHONPATH": str(TESTS)}

    def __call__(self, *words: str, timeout: str = "60", **more: Any) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            self.command(*words, timeout=timeout),
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=840,
            env=self.environment(),
            **more,
        )

    def verdicts(self, *words: str, timeout: str = "60") -> tuple[int, dict[str, dict[str, Any]]]:
        """Return the exit code, and each case of the table by its name."""
        done = self("--json", *words, timeout=timeout)
        assert done.stdout, done.stderr
        return done.returncode, {case["name"]: case for case in json.loads(done.stdout)["cases"]}


@pytest.fixture
def kit(session_broker):
    """Provide the kit."""
    if session_broker.kind != "mosquitto":
        pytest.skip("many short connections at a time: the embedded broker leaves some of them without an answer")
    return Kit(session_broker.url)
