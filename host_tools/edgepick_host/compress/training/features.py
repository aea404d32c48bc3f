"""Where two networks can be compared inside: the last map of each size, and what the last layer sees."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgepick_host.errors import CompressionError

LAST = "(last layer's input)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tap:
    """One place in a network.

    Attributes:
        layer: Name of the submodule; "" for the network itself.
        before: What the layer takes, not what it gives.
        shape: Without the batch.
    """

    layer: str
    before: bool
    shape: tuple[int, ...]


def maps(module: nn.Module, probe: Tensor) -> dict[tuple[int, ...], Tap]:
    """Return the last output of each height and width above 1, by (height, width), largest first."""
    found: dict[tuple[int, ...], Tap] = {}
    for name, value in outputs_of(module, probe):
        if value.ndim == 4 and value.shape[2] * value.shape[3] > 1:
            found[tuple(value.shape[2:])] = Tap(layer=name, before=False, shape=tuple(value.shape[1:]))
    return dict(sorted(found.items(), reverse=True))


def embedding(module: nn.Module, probe: Tensor) -> Tap:
    """Return where the last linear layer, or else the last convolution, takes its input.

    Raises:
        CompressionError: There is none.
    """
    layers = [name for name, part in module.named_modules() if isinstance(part, nn.Linear)]
    layers = layers or [name for name, part in module.named_modules() if isinstance(part, nn.Conv1d | nn.Conv2d)]
    if not layers:
        raise CompressionError("the module has no linear layer whose inputs could be compared")
    tap = Tap(layer=layers[-1], before=True, shape=())
    with torch.no_grad(), recorded(module, {LAST: tap}) as seen:
        module.eval()(probe)
    return Tap(layer=layers[-1], before=True, shape=tuple(seen[LAST].shape[1:]))


def outputs_of(module: nn.Module, probe: Tensor) -> list[tuple[str, Tensor]]:
    """Return what every submodule gives, in the order of its end."""
    seen: list[tuple[str, Tensor]] = []

    def note(name: str) -> Any:
        return lambda _part, _given, value: seen.append((name, value)) if isinstance(value, Tensor) else None

    handles = [part.register_forward_hook(note(name)) for name, part in module.named_modules() if name]
    try:
        with torch.no_grad():
            module.eval()(probe)
    finally:
        for handle in handles:
            handle.remove()
    return seen


@contextlib.contextmanager
def recorded(module: nn.Module, taps: Mapping[str, Tap]) -> Iterator[dict[str, Tensor]]:
    """Provide what passes the taps while the block runs, by the taps' keys; gradients flow through it."""
    seen: dict[str, Tensor] = {}
    handles = []
    for key, tap in taps.items():
        part = module.get_submodule(tap.layer)
        if tap.before:
            handles.append(part.register_forward_pre_hook(lambda _part, given, key=key: seen.update({key: given[0]})))
        else:
            handles.append(part.register_forward_hook(lambda _part, _given, value, key=key: seen.update({key: value})))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
