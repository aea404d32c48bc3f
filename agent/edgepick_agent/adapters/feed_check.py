"""Whether arrays are what a model takes; done before every inference, so it is cheap."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from edgepick_agent.errors import InputError
from edgepick_agent.ports import TensorSpec

if TYPE_CHECKING:
    from edgepick_agent.ports import Array


class FeedCheck:
    """Checks one model's inputs; what has passed costs next to nothing when the next request looks the same."""

    def __init__(self, inputs: Sequence[TensorSpec]) -> None:
        self._inputs = inputs
        self._passed: dict[str, tuple[object, tuple[int, ...]]] = {}

    def is_new(self, feeds: Mapping[str, "Array"]) -> bool:
        """Return whether types or shapes differ from the last that passed.

        Raises:
            InputError: They do not fit the model.
        """
        if len(feeds) == len(self._passed):
            for name, array in feeds.items():
                # numpy has one object per plain type.
                dtype, shape = self._passed.get(name, (None, ()))
                if array.dtype is not dtype or array.shape != shape:
                    break
            else:
                return False
        check_feeds(self._inputs, feeds)
        self._passed = {name: (array.dtype, array.shape) for name, array in feeds.items()}
        return True

    def forget(self) -> None:
        """Look at the next request as if it were the first."""
        self._passed = {}


def check_feeds(inputs: Sequence[TensorSpec], feeds: Mapping[str, "Array"]) -> None:
    """Raise ``InputError`` unless there is exactly one fitting array per input."""
    names = [spec.name for spec in inputs]
    if set(feeds) != set(names):
        raise InputError(f"the model takes inputs {sorted(names)}, found {sorted(feeds)}")
    for spec in inputs:
        _check_one(spec, feeds[spec.name])


def _check_one(spec: TensorSpec, array: "Array") -> None:
    if array.dtype != spec.dtype:
        raise InputError(f"input {spec.name}: the model takes {spec.dtype}, found {array.dtype}")
    if not fits(spec.shape, array.shape):
        raise InputError(f"input {spec.name}: the model takes shape {list(spec.shape)}, found {list(array.shape)}")


def fits(wanted: Sequence[int], found: Sequence[int]) -> bool:
    """Return whether a shape fits, -1 standing for any size but 0."""
    pairs = zip(wanted, found, strict=False)
    return len(wanted) == len(found) and all(w == f or (w == -1 and f > 0) for w, f in pairs)
