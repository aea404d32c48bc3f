"""Quantization-aware training with the float network as its teacher."""

from collections.abc import Mapping

from torch import Tensor, nn

from edgepick_host.compress.step import parameter
from edgepick_host.compress.training.distill_losses import response_loss
from edgepick_host.compress.training.graph import lower
from edgepick_host.compress.training.parameters import whole_number
from edgepick_host.compress.training.qat import FakeQuantized
from edgepick_host.compress.training.ranged import RangedModule
from edgepick_host.compress.training.step import TrainingContext, TrainingPass
from edgepick_host.compress.training.trainer import Batch, Hooks, Plan, answers, fit, logits, zeros_kept

EPOCHS = 20
RATE = 0.02
"""Of each weight tensor's root mean square; found on the demo's model, where half and double do about as well."""

TEACHER_SHARE = 0.7
TEMPERATURE = 2.0


def build() -> TrainingPass:
    """Return the pass.

    Parameters: ``weight_bits`` ("8", "4"), ``weights`` ("per_channel", "per_tensor"), ``ranges`` ("learned",
    "observed"), ``epochs`` ("20").
    """
    return _train_qat


def _train_qat(module: nn.Module, parameters: Mapping[str, str], context: TrainingContext) -> nn.Module:
    return trained_on_grids(
        module,
        context,
        bits=int(parameter(parameters, "weight_bits", ("8", "4"), default="8")),
        per_channel=parameter(parameters, "weights", ("per_channel", "per_tensor"), default="per_channel")
        == "per_channel",
        learned=parameter(parameters, "ranges", ("learned", "observed"), default="learned") == "learned",
        epochs=whole_number(parameters, "epochs", default=EPOCHS, least=1),
    )


def trained_on_grids(
    module: nn.Module, context: TrainingContext, *, bits: int, per_channel: bool, learned: bool, epochs: int = EPOCHS
) -> RangedModule:
    """Return the module's float graph after training, with its weights on grids of ``bits``, and the ranges.

    Raises:
        CompressionError: There is nothing to train in it, or the loss is no longer finite.
    """
    fake = FakeQuantized(lower(module, context.task.probe), bits=bits, per_channel=per_channel, learned=learned)
    fake.observe(context.calibration)
    probabilities = context.task.probabilities
    teacher = module.eval()

    def loss(student: nn.Module, batch: Batch) -> Tensor:
        taught = logits(answers(teacher, batch.x), probabilities=probabilities)
        found = logits(student(batch.x), probabilities=probabilities)
        return response_loss(found, taught, batch.y, temperature=TEMPERATURE, alpha=TEACHER_SHARE)

    plan = Plan(epochs=epochs, rate=RATE, relative_rate=True, weight_decay=0.0, keep_best=True)
    hooks = Hooks(after_step=zeros_kept(fake.rounding))
    fit(fake.rounding, context, plan, loss=loss, hooks=hooks, title="quantization-aware training")
    return fake.trained()
