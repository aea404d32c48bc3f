"""Quantization-aware training with the float network as its teacher."""

from collections.abc import Mapping

from torch import Tensor, nn

from edgepick_host.compress.step import parameter
from edgepick_host.compress.training.distill_losses import response_loss
from edgepick_host.compress.training.graph import lower
from edgepick_host.compress.training.parameters import whole_number
from edgepick_host.compress.training.qat import FakeQuantized
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
    fake = FakeQuantized(
        lower(module, context.task.probe),
        bits=int(parameter(parameters, "weight_bits", ("8", "4"), default="8")),
        per_channel=parameter(parameters, "weights", ("per_channel", "per_tensor"), default="per_channel")
        == "per_channel",
        learned=parameter(parameters, "ranges", ("learned", "observed"), default="learned") == "learned",
    )
    fake.observe(context.calibration)
    probabilities = context.task.probabilities
    teacher = module.eval()

    def loss(student: nn.Module, batch: Batch) -> Tensor:
        taught = logits(answers(teacher, batch.x), probabilities=probabilities)
        found = logits(student(batch.x), probabilities=probabilities)
        return response_loss(found, taught, batch.y, temperature=TEMPERATURE, alpha=TEACHER_SHARE)

    plan = Plan(
        epochs=whole_number(parameters, "epochs", default=EPOCHS, least=1),
        rate=RATE,
        relative_rate=True,
        weight_decay=0.0,
        keep_best=True,
    )
    hooks = Hooks(after_step=zeros_kept(fake.rounding))
    fit(fake.rounding, context, plan, loss=loss, hooks=hooks, title="quantization-aware training")
    return fake.trained()
