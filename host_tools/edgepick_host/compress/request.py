"""What a person asks of ``edgepick compress``. Imports no engine, so that a command line can build it quickly."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgepick_profiles.schema import Profile

Say = Callable[[str], None]
"""Called with one line for a person, before each piece of work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressRequest:
    """What to compress, for whom, and how good it must stay.

    Attributes:
        models: The float model, in one or both formats.
        profiles: Kinds of device.
        calibration: ``.npz`` of samples to calibrate on.
        evaluation: ``.npz`` of samples to evaluate on.
        out: Folder of the result.
        max_accuracy_drop: Largest loss of accuracy, in share (0.01 is one point).
        name: Of the model; made from its file's name if empty.
        recipes: Try exactly these.
        seed: Chooses the golden samples, the order of evaluation, and everything random in training.
        force: Move a foreign folder at ``out`` aside.
        search: Compose candidates; otherwise only ``recipes``, or those that the profiles name, are tried.
        relative: ``max_accuracy_drop`` is a share of the float model's accuracy.
        strict: The upper end of the confidence interval must be within the tolerance, too.
        budget_seconds: Wall clock after which nothing is tried any more.
        workers: Processes; 1 computes in this one, 0 is one per core.
        executor: ``dask://HOST:PORT`` instead of processes here.
        cache: Folder of what was computed before; ``None`` keeps nothing.
        task: The user's task file, for techniques that train.
        calibration_samples: Choose so many of the calibration samples; 0 takes all.
        coreset: How they are chosen (:class:`edgepick_host.compress.coreset.CoresetMethod`).
    """

    models: tuple[Path, ...]
    profiles: tuple[Profile, ...]
    calibration: Path
    evaluation: Path
    out: Path
    max_accuracy_drop: float = 0.01
    name: str = ""
    recipes: tuple[str, ...] = ()
    seed: int = 0
    force: bool = False
    search: bool = False
    relative: bool = False
    strict: bool = False
    budget_seconds: float | None = None
    workers: int = 1
    executor: str = ""
    cache: Path | None = None
    task: Path | None = None
    calibration_samples: int = 0
    coreset: str = ""


def cache_folder(environment: Mapping[str, str]) -> Path:
    """Return ``edgepick`` in the user's cache folder, as the XDG base directory specification has it."""
    base = environment.get("XDG_CACHE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "edgepick"
