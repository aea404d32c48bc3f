"""How a network that lost weights is trained: by the labels, and by what it answered when it was whole."""

import copy

import torch
from torch import Tensor, nn

from edgepick_host.compress.training.distill_losses import response_loss
from edgepick_host.compress.training.step import TrainingContext
from edgepick_host.compress.training.trainer import Batch, Loss, answers, logits

TEACHER_SHARE, TEMPERATURE = 0.7, 2.0


def recovery_loss(teacher: nn.Module, context: TrainingContext) -> Loss:
    """Return the loss that holds a cut network to the labels and to the answers that ``teacher`` gives."""
    probabilities = context.task.probabilities

    def loss(student: nn.Module, batch: Batch) -> Tensor:
        taught = logits(answers(teacher, batch.x), probabilities=probabilities)
        found = logits(student(batch.x), probabilities=probabilities)
        return response_loss(found, taught, batch.y, temperature=TEMPERATURE, alpha=TEACHER_SHARE)

    return loss


def normalized(module: nn.Module, x: Tensor) -> nn.Module:
    """Return a copy with a batch norm after every convolution, which answers as before; a plain copy if it has some.

    A network whose batch norms were folded for shipping trains badly after a cut. The new ones start with the means and
    variances on ``x``, so that they change nothing; the export folds them again.
    """
    copied = copy.deepcopy(module).eval()
    if any(isinstance(part, nn.BatchNorm2d) for part in copied.modules()):
        return copied
    convolutions = {name: part for name, part in copied.named_modules() if isinstance(part, nn.Conv2d)}
    norms: dict[str, nn.BatchNorm2d] = {}
    handles = [
        part.register_forward_hook(lambda _part, _given, out, name=name: norms.__setitem__(name, _as_seen(out)))
        for name, part in convolutions.items()
    ]
    with torch.no_grad():
        copied(x)
    for handle in handles:
        handle.remove()
    for name, norm in norms.items():
        parent, _, child = name.rpartition(".")
        setattr(copied.get_submodule(parent), child, nn.Sequential(convolutions[name], norm))
    return copied


def _as_seen(out: Tensor) -> nn.BatchNorm2d:
    """Return a batch norm, in evaluation mode, that gives what it takes and has the statistics of ``out``."""
    norm = nn.BatchNorm2d(out.shape[1]).eval()
    mean, variance = out.mean(dim=(0, 2, 3)), out.var(dim=(0, 2, 3))
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
    norm.weight.copy_((variance + norm.eps).sqrt())
    norm.bias.copy_(mean)
    return norm
