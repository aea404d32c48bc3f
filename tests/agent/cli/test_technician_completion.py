"""The TAB key in a real bash: commands, options, and the names of what is installed, with no agent running."""

import os
import subprocess
import sys

import pytest

PRESS_TAB = r"""
eval "$(edgepick-agent completion bash)"
function=$(complete -p edgepick-agent | sed 's/.*-F \([^ ]*\).*/\1/')
for line in "$@"; do
  read -r -a COMP_WORDS <<< "$line"
  [[ "$line" == *" " ]] && COMP_WORDS+=("")
  COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
  COMPREPLY=()
  "$function" edgepick-agent
  echo "${COMPREPLY[*]}"
done
"""
"""Loads the script that ``completion bash`` prints, and calls what it registered, as bash does at TAB."""


def press_tab(*lines, config):
    """Return what bash offers after each line."""
    program = config.with_name("bin") / "edgepick-agent"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m edgepick_agent "$@"\n')
    program.chmod(0o755)
    path = f"{program.parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "--norc", "-c", PRESS_TAB, "bash", *lines],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PATH": path, "EDGEPICK_AGENT_CONFIG": str(config)},
    )
    assert done.stderr == ""
    return [line.split() for line in done.stdout.splitlines()]


@pytest.fixture
def two(command, config_file, bundle_file):
    """Provide the configuration of a device on which two variants are installed, and no agent runs."""
    for version in ("1", "2"):
        assert command("install", bundle_file(version), "-c", config_file, "--yes").exit_code == 0
    return config_file


def test_bash_completes_commands_options_and_what_is_installed(two):
    """Each word that a technician would type next, from the state on disk."""
    commands, options, models, named, variants = press_tab(
        "edgepick-agent ro",
        "edgepick-agent rollback --d",
        "edgepick-agent rollback d",
        "edgepick-agent infer --model ",
        "edgepick-agent pin p",
        config=two,
    )

    assert (commands, options) == (["rollback"], ["--dry-run"])
    assert (models, named) == (["digits"], ["digits"])
    assert variants == ["previous"]


@pytest.mark.parametrize("content", [None, "device = [", 'device = "gr\u00f6\u00dfe"'])
def test_where_nothing_can_be_known_bash_stays_silent(tmp_path, content):
    """No configuration, or a broken one: commands are completed, names are not, and no error gets in between."""
    config = tmp_path / "agent.toml"
    if content is not None:
        config.write_text(content)

    commands, models = press_tab("edgepick-agent unp", "edgepick-agent unpin d", config=config)

    assert (commands, models) == (["unpin"], [])
