"""Structured pruning: channels go together, in multiples of the SIMD width."""

import copy

import numpy as np
import pytest
import torch

from edgepick_host.compress.passes import train_prune_channels
from edgepick_host.compress.predictor import open_predictor
from edgepick_host.compress.training.channels import Cut, Shrinker, cost
from edgepick_host.compress.training.export import export_module
from edgepick_host.errors import CompressionError
from edgepick_wire.manifest import ModelFormat


@pytest.mark.parametrize("importance", ["magnitude", "taylor"])
@pytest.mark.parametrize("everywhere", [False, True])
def test_channels_stay_in_multiples_of_the_simd_width(cut_context, importance, everywhere):
    """Every layer but the last keeps a multiple of eight, and both sides of the residual sum the same."""
    module = copy.deepcopy(cut_context.task.module)

    shrinker = Shrinker(module, cut_context.task.probe, Cut(ratio=0.4, importance=importance, everywhere=everywhere))
    shrinker.shrink(cut_context.data, probabilities=False)

    widths = [layer.out_channels for layer in (module.stem, module.first, module.second)]
    assert all(width % 8 == 0 for width in (*widths, module.hidden.out_features))
    assert module.stem.out_channels == module.second.out_channels
    assert module.norm.num_features == module.first.out_channels
    assert module.head.out_features == 4
    assert cost(module, cut_context.task.probe).macs < cost(cut_context.task.module, cut_context.task.probe).macs


@pytest.mark.parametrize("model_format", [ModelFormat.TFLITE, ModelFormat.ONNX])
def test_the_smaller_network_exports_smaller_and_answers_alike(cut_context, model_format):
    """The file is really smaller, and gives the module's answers."""
    dense = cut_context.task.module

    small = train_prune_channels.build()(dense, {"epochs": "2", "steps": "2"}, cut_context)

    probe = cut_context.task.probe
    files = [export_module(each, model_format, probe, channels_last=False) for each in (dense, small)]
    found = open_predictor(files[1], model_format).run([probe[:1].numpy()])
    with torch.no_grad():
        np.testing.assert_allclose(found, small(probe[:1]).numpy()[0], atol=1e-4)
    assert len(files[1]) < 0.7 * len(files[0])


def test_a_ratio_that_removes_nothing_is_an_error(cut_context):
    """Rounding may leave every layer as it is; that is not passed off as a smaller model."""
    with pytest.raises(CompressionError, match="no channel was removed"):
        train_prune_channels.build()(
            cut_context.task.module, {"ratio": "0.3", "round_to": "64", "epochs": "1", "steps": "1"}, cut_context
        )


def test_blocks_are_left_out_before_channels(cut_context):
    """With depth, the later blocks that keep their input's shape go, and the answers keep theirs."""
    from dataclasses import replace

    from torch import nn

    def block() -> nn.Module:
        return nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU())

    inner = nn.Sequential(block(), block())
    net = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), inner, nn.AvgPool2d(8), nn.Flatten(), nn.Linear(16, 4)).eval()
    context = replace(cut_context, task=replace(cut_context.task, module=net))

    found = train_prune_channels.build()(net, {"depth": "0", "ratio": "0.5", "steps": "1", "epochs": "2"}, context)

    assert sum(isinstance(part, nn.Conv2d) for part in found.modules()) == 1
    assert found(cut_context.task.probe).shape == (4, 4)
