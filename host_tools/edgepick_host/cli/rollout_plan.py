"""What a person may say about a rollout: the options of ``edgepick rollout start``, and the plan that they make."""

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from edgepick_host.cli.options import duration
from edgepick_host.core.experiment.between import Between
from edgepick_host.core.gates import Policy
from edgepick_host.core.objective import DEFAULT_OBJECTIVE, parse_objective
from edgepick_host.core.schedule import parse_waves
from edgepick_host.core.waves import Leg, Plan
from edgepick_host.errors import ConfigError
from edgepick_wire.errors import MalformedError

Command = TypeVar("Command", bound=Callable[..., Any])


def _share(_context: click.Context, _parameter: click.Parameter, value: str) -> float:
    """Return ``5%`` or ``0.05`` as a share."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(%?)", value)
    if match is None:
        raise click.BadParameter(f"{value!r} is not a share such as 5% or 0.05")
    return float(match[1]) / (100 if match[2] else 1)


def _optional_share(context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    return None if value is None else _share(context, parameter, value)


def _phases(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, float]:
    """Return ``fetch=30m`` and the like as seconds by phase."""
    found = {}
    for value in values:
        phase, _, limit = value.partition("=")
        if phase not in set(Leg):
            raise click.BadParameter(f"{value!r} is not PHASE=TIME; phases are {', '.join(Leg)}")
        found[phase] = duration(context, parameter, limit)
    return found


_OPTIONS = (
    click.option("--version", "version", default="", metavar="LABEL", help="Version to roll out. [the newest]"),
    click.option("--profile", "kinds", metavar="NAME", multiple=True, help="Only this kind of device; repeatable."),
    click.option("--variant", metavar="NAME", help="Roll this one out, without selection."),
    click.option(
        "--canary",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        help="Devices of each stratum that go first.",
    ),
    click.option(
        "--waves",
        default="25%,50%,100%",
        show_default=True,
        help="Each step a share (10%) or number (10) of every stratum's devices, a query (site=lab), or exponential:2.",
    ),
    click.option(
        "--only", metavar="QUERY", default="", help="Only devices that match: 'site=lab and region in (eu, us)'."
    ),
    click.option(
        "--objective",
        default=str(DEFAULT_OBJECTIVE),
        show_default=True,
        help="What is best; 'subject to accuracy >= 0.97 and p95 <= 20 ms' adds limits.",
    ),
    click.option(
        "--deadline",
        callback=duration,
        metavar="TIME",
        default="10m",
        show_default=True,
        help="Longest time for the canary, for each wave and for a return.",
    ),
    click.option(
        "--phase-deadline",
        "phases",
        callback=_phases,
        metavar="PHASE=TIME",
        multiple=True,
        help=f"Longest stay of a device in one phase ({', '.join(Leg)}); repeatable.",
    ),
    click.option(
        "--check",
        "checks",
        metavar="LIMITS",
        default="",
        help="Measure again after installing: 'p95 <= +10% and memory <= 60 MiB'; +10% is over what ran there before.",
    ),
    click.option(
        "--window",
        metavar="TIMES",
        default="",
        help="Offer only then: 'mon-fri 01:00-05:00', UTC unless a zone follows ('... Europe/Berlin').",
    ),
    click.option(
        "--measure-deadline",
        callback=duration,
        metavar="TIME",
        default="10m",
        show_default=True,
        help="Longest wait for measurements.",
    ),
    click.option(
        "--soak",
        callback=duration,
        metavar="TIME",
        default="5s",
        show_default=True,
        help="How long a wave must stay healthy before the next.",
    ),
    click.option(
        "--max-failures",
        callback=_share,
        metavar="SHARE",
        default="10%",
        show_default=True,
        help="Failures in one wave of a stratum that are borne; more returns everything.",
    ),
    click.option(
        "--tolerated",
        callback=_share,
        metavar="SHARE",
        default="0.5%",
        show_default=True,
        help="Devices on which a healthy variant fails; more, shown over all waves, returns everything. "
        "0%: no watch; else at least 0.0001%.",
    ),
    click.option(
        "--max-slower",
        callback=_share,
        metavar="SHARE",
        default="5%",
        show_default=True,
        help="Growth of a figure that --check measures again; more, shown over all waves, returns everything.",
    ),
    click.option(
        "--between",
        callback=_optional_share,
        metavar="SHARE",
        help="Compare this share of each stratum with as many that wait, by who fails first, before going on.",
    ),
    click.option(
        "--between-time",
        callback=duration,
        metavar="TIME",
        default="1h",
        show_default=True,
        help="How long that comparison lasts.",
    ),
    click.option(
        "--max-excess",
        callback=_share,
        metavar="SHARE",
        default="5%",
        show_default=True,
        help="It goes on if it is shown that at most so many more devices fail.",
    ),
    click.option(
        "--min-confirmed",
        callback=_share,
        metavar="SHARE",
        default="100%",
        show_default=True,
        help="Of a wave before the next; the rest has the deadline's time. Canary and last wave need all.",
    ),
    click.option(
        "--min-devices",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        help="So many must have measured a variant.",
    ),
    click.option(
        "--min-gain",
        callback=_share,
        metavar="SHARE",
        default="0%",
        show_default=True,
        help="Proven gain that another variant of the running version needs.",
    ),
    click.option(
        "--alpha",
        callback=_share,
        metavar="SHARE",
        default="5%",
        show_default=True,
        help="Chance of any false gain, over all strata and variants; at least 0.0001%.",
    ),
    click.option(
        "--max-accuracy-drop",
        callback=_share,
        metavar="SHARE",
        default="1%",
        show_default=True,
        help="Largest loss of accuracy against the float model.",
    ),
    click.option(
        "--max-bytes",
        type=click.IntRange(min=0),
        metavar="N",
        help="What needs more over a device's link is refused there. [no limit]",
    ),
)


def options(command: Command) -> Command:
    """Return the command with an option for each part of a plan."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def plan_of(flags: Mapping[str, Any]) -> Plan:
    """Return the plan that the flags of :func:`options` make.

    Raises:
        ConfigError: They make none; it says why.
    """
    try:
        return _unchecked_plan(flags)
    except MalformedError as error:
        raise ConfigError(str(error), hint="`edgepick rollout start --help` names what is allowed.") from error


def _unchecked_plan(flags: Mapping[str, Any]) -> Plan:
    parse_objective(flags["objective"])
    policy = Policy(
        min_devices=flags["min_devices"],
        max_accuracy_drop=flags["max_accuracy_drop"],
        min_gain=flags["min_gain"],
        alpha=flags["alpha"],
    )
    return Plan(
        version=flags["version"],
        variant=flags["variant"],
        profiles=flags["kinds"],
        canary=flags["canary"],
        steps=parse_waves(flags["waves"]),
        only=flags["only"],
        window=flags["window"],
        checks=flags["checks"],
        phase_seconds=flags["phases"],
        min_confirmed=flags["min_confirmed"],
        max_failures=flags["max_failures"],
        tolerated=flags["tolerated"],
        max_slower=flags["max_slower"],
        between=_between(flags),
        wave_seconds=flags["deadline"],
        soak_seconds=flags["soak"],
        measure_seconds=flags["measure_deadline"],
        objective=flags["objective"],
        policy=policy,
        max_bytes=flags["max_bytes"],
    )


def _between(flags: Mapping[str, Any]) -> Between | None:
    if flags["between"] is None:
        return None
    return Between(share=flags["between"], seconds=flags["between_time"], max_excess=flags["max_excess"])
