"""The pages for people agree with the commands that they describe."""

import re
from pathlib import Path

from edgepick_agent.cli.commands import COMMANDS
from edgepick_agent.config import ENVIRONMENT, PREFIX
from edgepick_wire.messages import RefusalCode

ROOT = Path(__file__).parents[3]
TECHNICIAN = (ROOT / "docs/technician.md").read_text(encoding="utf-8")


def test_every_refusal_is_explained_to_the_technician():
    """Each code that a device may show stands in the technician's page."""
    assert [code.value for code in RefusalCode if f"`{code.value}`" not in TECHNICIAN] == []


def test_every_command_is_shown_to_the_technician():
    """Each command appears, and none that does not exist."""
    shown = set(re.findall(r"edgepick-agent ([a-z]+(?:-[a-z]+)*)", TECHNICIAN))

    assert set(COMMANDS) - shown <= {"run"}
    assert shown <= set(COMMANDS)


def test_every_environment_variable_is_named():
    """Each variable that overrides a key is in the technician's page."""
    assert [name for name in ENVIRONMENT if f"`_{name.removeprefix(PREFIX)}`" not in TECHNICIAN] == [
        "EDGEPICK_AGENT_DEVICE"
    ]
    assert "`EDGEPICK_AGENT_DEVICE`" in TECHNICIAN


def test_every_decision_is_in_the_index():
    """Each record in docs/adr is linked from its index, under its own title."""
    index = (ROOT / "docs/adr/README.md").read_text(encoding="utf-8")
    records = sorted((ROOT / "docs/adr").glob("[0-9]*.md"))

    assert records
    assert [r.name for r in records if f"({r.name})" not in index] == []
    assert sorted(re.findall(r"\((\d{4}-[^)]+\.md)\)", index)) == [r.name for r in records]


def test_links_between_the_pages_lead_somewhere():
    """A path in backticks that looks like one of ours exists."""
    pages = [ROOT / p for p in ("docs/technician.md", "docs/porting.md", "CONTRIBUTING.md", "agent/README.md")]
    named = {
        (page.name, path)
        for page in pages
        for path in re.findall(r"`(\w[\w./-]*/[\w.-]+\.(?:py|md|toml))`", page.read_text())
    }
    homes = ("", "agent/edgepick_agent/", "agent/")

    assert named
    assert sorted((page, p) for page, p in named if not any((ROOT / home / p).exists() for home in homes)) == []
