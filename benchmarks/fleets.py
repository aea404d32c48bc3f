"""``make bench-fleet``: one host on this machine, thousands of simulated devices, a real broker between them.

    make bench-fleet                          everything; the parts take a quarter of an hour each
    make bench-fleet ARGS="--part scale"      1,000, 5,000 and 10,000 devices: time, memory, load, cost of a device
    make bench-fleet ARGS="--part harm"       a bad variant, 100 seeds: how much of the fleet has seen it
    make bench-fleet ARGS="--part kill"       the host killed 50 times in one rollout of 500 devices
    make bench-fleet ARGS="--quick --json"    small; for programs

Figures stand beside their targets; exit code 1 if one is missed. A comparison of runs that something else disturbed
has no verdict. ``harm`` runs in this process with a broker and a clock of its own, so that 100 seeds take minutes; the
coordinator and the devices are the real ones.
"""

import argparse
import sys

import fleet_harm
import fleet_kill
import fleet_scale
from fleet_site import machine_words
from verdicts import Figure, as_json, as_table

SIZES = (1000, 5000, 10_000)
QUICK_SIZES = (200, 1000)
PARTS = ("scale", "harm", "kill")


def say(text: str) -> None:
    """Tell what is going on, at once."""
    print(text, file=sys.stderr, flush=True)


def scale(*, quick: bool) -> list[Figure]:
    """Return the figures of every size."""
    runs = []
    for devices in QUICK_SIZES if quick else SIZES:
        runs.append(fleet_scale.one_size(devices, say))
        last = runs[-1]
        say(f"{devices} devices: {last.seconds:.0f} s, host {last.cpu_seconds:.0f} s of processor time")
    return fleet_scale.figures(runs)


def part(name: str, *, quick: bool, seeds: int) -> list[Figure]:
    """Return the figures of one part."""
    if name == "scale":
        return scale(quick=quick)
    if name == "harm":
        return fleet_harm.figures(min(seeds, 5) if quick else seeds, say)
    devices, kills = (60, 5) if quick else (500, 50)
    return fleet_kill.figures(devices, kills, say)


def main() -> int:
    """Run the parts, print the table; 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=PARTS, action="append", help="only this part; repeatable")
    parser.add_argument("--quick", action="store_true", help="small fleets and few seeds")
    parser.add_argument("--seeds", type=int, default=100, help="of the part harm [100]")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    machine = machine_words()
    found = [f for name in options.part or PARTS for f in part(name, quick=options.quick, seeds=options.seeds)]
    if options.json:
        print(as_json(machine, found))
    else:
        print(", ".join(machine), as_table(found), sep="\n")
    return 1 if any(figure.reached is False for figure in found) else 0


if __name__ == "__main__":
    sys.exit(main())
