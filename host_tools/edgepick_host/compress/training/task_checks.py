"""Checks of what a task file's functions return: modules, inputs, labels, answers."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgepick_host.compress.training.samples import Samples, to_module_layout
from edgepick_host.errors import InputFileError

_NUMERIC_KINDS = "biuf"
_HINT = "A task file holds model() -> nn.Module and train_data() -> (x, y); see docs/training.md."


def wrong(path: Path, function: str, what: str, *, hint: str = _HINT) -> InputFileError:
    """Return the error that names the file, the function and what is wrong."""
    return InputFileError(f"{path}: {function} {what}", hint=hint)


def check_module(path: Path, function: str, found: Any) -> nn.Module:
    """Return the module, on the CPU.

    Raises:
        InputFileError: It is none, or a weight is not finite.
    """
    if not isinstance(found, nn.Module):
        raise wrong(path, function, f"returned {type(found).__name__}; a torch.nn.Module is expected")
    for name, value in found.state_dict().items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise wrong(path, function, f"has NaN or infinity in {name!r}", hint="Load weights from a sound training.")
    return found.cpu()


def read_samples(path: Path, found: Any, *, channels_last: bool) -> Samples:
    """Return what ``train_data()`` returned as tensors, in the module's layout.

    Raises:
        InputFileError: No pair, empty, not numeric, not finite, of unequal lengths, or labels that are no integers.
    """
    function = "train_data()"
    if not isinstance(found, list | tuple) or len(found) != 2:
        raise wrong(path, function, f"returned {_described(found)}; a pair (x, y) of arrays is expected")
    x = read_inputs(path, function, found[0], channels_last=channels_last)
    y = _array(path, function, "y", found[1])
    if y.dtype.kind not in "iu":
        raise wrong(path, function, f"y has the type {y.dtype}; labels are integers, one per sample")
    if y.shape != (len(x),):
        raise wrong(
            path, function, f"y has the shape {list(y.shape)}; x has {len(x)} samples, so [{len(x)}] is expected"
        )
    return Samples(x=x, y=torch.from_numpy(y.astype(np.int64)))


def read_inputs(path: Path, function: str, found: Any, *, channels_last: bool) -> Tensor:
    """Return inputs as float32 in the module's layout.

    Raises:
        InputFileError: Not a numeric array, empty, not finite, or not of four dimensions with ``channels_last``.
    """
    x = _array(path, function, "x", found)
    if x.ndim < 2 or x.size == 0:
        raise wrong(path, function, f"x of shape {list(x.shape)} holds no samples; [N, ...] with N > 0 is expected")
    real = x.astype(np.float32)
    if not np.isfinite(real).all():
        where = [int(i) for i in np.argwhere(~np.isfinite(real))[0]]
        raise wrong(path, function, f"x{where} is {x[tuple(where)]}; every value must be finite in float32")
    if channels_last and x.ndim != 4:
        raise wrong(path, function, f"x has the shape {list(x.shape)}; channels_last = True means [N, H, W, C]")
    return to_module_layout(torch.from_numpy(real), channels_last=channels_last)


def _array(path: Path, function: str, name: str, found: Any) -> np.ndarray[Any, Any]:
    value = found.detach().cpu().numpy() if isinstance(found, Tensor) else found
    if not isinstance(value, np.ndarray):
        raise wrong(path, function, f"returned {type(found).__name__} for {name}; a numpy array is expected")
    if value.dtype.kind not in _NUMERIC_KINDS:
        raise wrong(path, function, f"{name} has the type {value.dtype}; a real numeric type is expected")
    return value


def check_labels(path: Path, y: Tensor, classes: int) -> None:
    """Refuse labels that are none of the model's classes.

    Raises:
        InputFileError: The first that is not, with its place.
    """
    bad = ((y < 0) | (y >= classes)).nonzero().flatten()
    if len(bad):
        first = int(bad[0])
        raise wrong(
            path, "train_data()", f"y[{first}] is {int(y[first])}; model() has {classes} classes, 0 to {classes - 1}"
        )
    if len(y.unique()) < 2:
        raise wrong(path, "train_data()", f"has samples of class {int(y[0])} only; nothing can be learned from that")


def check_answers(path: Path, function: str, module: nn.Module, x: Tensor) -> Tensor:
    """Return the module's answers to a few inputs, ``[n, classes]``.

    Raises:
        InputFileError: It does not take them, or does not answer with one row of finite scores per sample.
    """
    shape = list(x.shape)
    try:
        with torch.no_grad():
            found = module.eval()(x)
    except Exception as error:  # user code raises what it likes
        first = str(error).strip().partition("\n")[0]
        hint = "Sizes in another order? channels_last = True turns [N, H, W, C] into [N, C, H, W] for the module."
        raise wrong(
            path, function, f"does not take x of shape {shape}: {type(error).__name__}: {first}", hint=hint
        ) from error
    if not isinstance(found, Tensor) or found.ndim != 2 or found.shape[0] != shape[0] or found.shape[1] < 2:
        raise wrong(path, function, f"answers with {_described(found)} to x of shape {shape}; "
                    f"one tensor [{shape[0]}, classes] is expected")  # fmt: skip
    if not bool(torch.isfinite(found).all()):
        raise wrong(path, function, "answers with NaN or infinity to train_data()'s first samples")
    return found


def check_same_shape(path: Path, function: str, given: Tensor, found: Any) -> None:
    """Refuse what a function made of a batch if its shape is another.

    Raises:
        InputFileError: It is no tensor of the batch's shape.
    """
    if not isinstance(found, Tensor) or found.shape != given.shape:
        expected = list(given.shape)
        raise wrong(path, function, f"answers with {_described(found)} to x of shape {expected}; "
                    f"a tensor {expected} is expected")  # fmt: skip


def _described(found: Any) -> str:
    if isinstance(found, list | tuple):
        return f"{type(found).__name__} of {len(found)}"
    shape = getattr(found, "shape", None)
    return type(found).__name__ if shape is None else f"{type(found).__name__} of shape {list(shape)}"
