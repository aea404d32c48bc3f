"""``edgepick-agent service install|uninstall``: the plan first, then the deed."""

import os
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path

import click

from edgepick_agent.cli.options import config_option, dry_run_option, json_option, sysfs_option
from edgepick_agent.cli.render import as_json_text
from edgepick_agent.cli.site import carry_out, detect, service_facts
from edgepick_agent.config import load_settings
from edgepick_agent.core.service import UNIT, ServiceFacts, Step, WriteFile, plan_install, plan_uninstall
from edgepick_agent.core.settings import AgentSettings
from edgepick_agent.errors import AgentError


@click.group()
def service() -> None:
    """Install or remove the systemd service."""


@service.command()
@config_option
@click.option("--user", default="edgepick", show_default=True, help="Account that runs the agent; made if missing.")
@dry_run_option
@json_option
@sysfs_option
def install(*, config_file: Path, user: str, dry_run: bool, as_json: bool, sysfs_root: Path) -> None:
    """Install, enable and start the service; doing it again brings it up to date."""
    settings = load_settings(config_file, os.environ, files=not dry_run)
    facts = _facts(settings, config_file.absolute(), user, detect(sysfs_root).profile)
    _warn(facts)
    command = f"service install --config {config_file} --user {user}"
    _do(plan_install(facts), dry_run=dry_run, command=command, as_json=as_json)
    if not dry_run and not as_json:
        click.echo(f"installed and started; watch it with: journalctl -fu {UNIT.removesuffix('.service')}")


@service.command()
@dry_run_option
@json_option
def uninstall(*, dry_run: bool, as_json: bool) -> None:
    """Stop and remove the service; models, configuration, account and drop-ins of your own stay."""
    _do(plan_uninstall(), dry_run=dry_run, command="service uninstall", as_json=as_json)


def _facts(settings: AgentSettings, config: Path, user: str, board: str) -> ServiceFacts:
    broker = settings.broker
    readable = (settings.root_document, settings.runner.python, broker.ca_file, broker.cert_file)
    return service_facts(
        user=user,
        config=str(config),
        state_dir=settings.state_dir,
        board=board,
        secrets=[name for name in (broker.password_file, broker.key_file) if name],
        readable=[name for name in readable if name],
    )


def _warn(facts: ServiceFacts) -> None:
    for folder in facts.closed:
        click.echo(
            f"warning: {folder} is closed to other accounts, so {facts.user!r} may not be able to read below it;"
            f" move it, or add --user OWNER",
            err=True,
        )


def _do(steps: Iterable[Step], *, dry_run: bool, command: str, as_json: bool) -> None:
    if not dry_run and os.geteuid() != 0:
        raise AgentError(
            "this needs root; nothing was done",
            hint=f"sudo {sys.executable} -m edgepick_agent {command}   (--dry-run shows what it would do)",
        )
    steps = tuple(steps)
    for step in steps:
        if not as_json:
            _tell(step, dry_run=dry_run)
        if not dry_run:
            carry_out([step])
    if as_json:
        told = [{"step": str(step), "text": step.text if isinstance(step, WriteFile) else None} for step in steps]
        click.echo(as_json_text({"done": not dry_run, "steps": told}))


def _tell(step: Step, *, dry_run: bool) -> None:
    click.echo(f"would {step}" if dry_run else str(step))
    if dry_run and isinstance(step, WriteFile):
        click.echo(textwrap.indent(step.text, "    "), nl=False)
