"""How a network that lost weights is trained: by the labels, and by what it answered when it was whole."""

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
