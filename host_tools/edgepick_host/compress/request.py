"""What a person asks of ``edgepick compress``. Imports no engine, so that a command line can build it quickly."""

from collections.abc import Callable
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
        recipes: Instead of those that the profiles name.
        seed: Chooses the golden samples.
        force: Move a foreign folder at ``out`` aside.
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
