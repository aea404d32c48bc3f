"""A smaller network derived from a larger one: fewer channels everywhere, fewer residual blocks."""

import copy
import math

import torch
from torch import Tensor, nn

from edgepick_host.compress.training.features import outputs_of
from edgepick_host.errors import CompressionError


def derive_student(teacher: nn.Module, probe: Tensor, *, width: float, depth: float, inherit: bool = True) -> nn.Module:
    """Return a smaller copy of a network.

    Args:
        teacher: Stays as it is.
        probe: A few inputs.
        width: Share of the channels that stay (0..1]; the last layer's outputs all stay.
        depth: Share of the blocks that stay (0..1], among those that keep their input's shape.
        inherit: Begin with the weights that stay; otherwise with random ones of the same size.

    Raises:
        CompressionError: No block can be left out, or the channels cannot be cut.
    """
    student = copy.deepcopy(teacher).eval()
    if depth < 1:
        _drop_blocks(student, probe, depth)
    if width < 1:
        _narrow(student, probe, width)
    if not inherit:
        _forget(student)
    with torch.no_grad():
        found, expected = student(probe), teacher.eval()(probe)
    if found.shape != expected.shape:
        raise CompressionError("the derived student answers in another shape than its teacher")
    return student


def droppable_blocks(module: nn.Module, probe: Tensor) -> list[str]:
    """Return the parts of ``nn.Sequential`` that have weights and submodules, and keep their input's shape."""
    inside = {
        f"{name}.{child}" if name else child
        for name, part in module.named_modules()
        if isinstance(part, nn.Sequential)
        for child, block in part.named_children()
        if any(True for _ in block.parameters()) and any(True for _ in block.children())
    }
    seen: dict[str, torch.Size] = {}
    handles = [
        module.get_submodule(name).register_forward_pre_hook(
            lambda _part, given, name=name: seen.__setitem__(name, given[0].shape)
        )
        for name in sorted(inside)
    ]
    try:
        given = {name: value.shape for name, value in outputs_of(module, probe) if name in inside}
    finally:
        for handle in handles:
            handle.remove()
    return [name for name, shape in given.items() if seen.get(name) == shape]


def _drop_blocks(module: nn.Module, probe: Tensor, depth: float) -> None:
    """Replace, in place, the later ones of the droppable blocks by nothing."""
    blocks = droppable_blocks(module, probe)
    if not blocks:
        raise CompressionError(
            f"depth={depth:g}: no block of this network keeps its input's shape, so none can be left out",
            hint="Only parts of an nn.Sequential are left out; give the student with student() instead.",
        )
    keep = math.ceil(len(blocks) * depth)
    for name in blocks[keep:]:
        parent, _, child = name.rpartition(".")
        setattr(module.get_submodule(parent), child, nn.Identity())


def _narrow(module: nn.Module, probe: Tensor, width: float) -> None:
    """Cut, in place, channels everywhere, by groups that depend on one another."""
    import torch_pruning

    last = [part for part in module.modules() if isinstance(part, nn.Linear | nn.Conv1d | nn.Conv2d)][-1]
    for parameter in module.parameters():
        parameter.requires_grad_()
    try:
        torch_pruning.pruner.MagnitudePruner(
            module,
            probe,
            importance=torch_pruning.importance.MagnitudeImportance(p=2),
            pruning_ratio=1 - width,
            ignored_layers=[last],
        ).step()
    except Exception as error:  # it raises what its tracing meets
        first = str(error).strip().partition("\n")[0]
        raise CompressionError(
            f"width={width:g}: the channels of this network cannot be cut: {type(error).__name__}: {first}",
            hint="Give the student with student() instead.",
        ) from error


def _forget(module: nn.Module) -> None:
    """Make the weights random again, in place, each tensor with the root mean square that it had.

    The size is kept because a network may have the scale of its inputs folded into its weights.
    """
    for part in module.modules():
        reset = getattr(part, "reset_parameters", None)
        if reset is None:
            continue
        before = {name: value.detach().square().mean().sqrt() for name, value in part.named_parameters(recurse=False)}
        reset()
        with torch.no_grad():
            for name, value in part.named_parameters(recurse=False):
                if value.ndim > 1:
                    value.mul_(before[name] / value.square().mean().sqrt().clamp_min(1e-12))
