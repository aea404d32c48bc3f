"""The task file of MLPerf Tiny's ResNet8: the published float file's weights, and 5000 images of CIFAR-10 to train on.

Needs ``EDGEPICK_BENCH_DATA``. None of the training images is in the evaluation archive.
"""

import os
from pathlib import Path

import numpy as np
import torch
from ai_edge_litert import schema_py_generated as schema
from torch import Tensor, nn

from edgepick_host.compress import tflite_file

FOLDER = Path(os.environ.get("EDGEPICK_BENCH_DATA", "."))
SIDE, PIXELS_MOVED = 32, 4
STAGES = ((16, 16, 1), (16, 32, 2), (32, 64, 2))
"""Inputs, outputs and stride of the residual blocks."""

channels_last = True


class SamePadded(nn.Module):
    """A convolution with padding as TensorFlow's SAME: what is missing is added, the odd one at the end."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        missing = max(kernel - stride, 0)
        self.pad = (missing // 2, missing - missing // 2) * 2
        even = missing % 2 == 0
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=missing // 2 if even else 0)
        self.uneven = not even

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[N, outputs, H / stride, W / stride]``."""
        return self.conv(nn.functional.pad(x, self.pad) if self.uneven else x)


class Block(nn.Module):
    """Two convolutions and a shortcut, in the published file's order."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = SamePadded(inputs, outputs, 3, stride)
        self.second = SamePadded(outputs, outputs, 3, 1)
        self.shortcut = SamePadded(inputs, outputs, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output."""
        return torch.relu(self.second(torch.relu(self.first(x))) + self.shortcut(x))


class ResNet8(nn.Module):
    """From pixels 0..255, ``[N, 3, 32, 32]``, to probabilities ``[N, 10]``."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = SamePadded(3, 16, 3, 1)
        self.blocks = nn.Sequential(*(Block(*stage) for stage in STAGES))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return probabilities."""
        y = self.blocks(torch.relu(self.stem(x)))
        return torch.softmax(self.head(torch.flatten(self.pool(y), 1)), dim=1)


def model() -> nn.Module:
    """Return the network with the published weights: the file names its layers in the order they are run in."""
    path = FOLDER / "mlperf_tiny/resnet8_float.tflite"
    parsed = tflite_file.read(path.read_bytes(), path)
    graph = parsed.subgraphs[0]
    net = ResNet8()
    layers = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    weighted = [op for op in graph.operators if _kind(parsed, op) in {"CONV_2D", "FULLY_CONNECTED"}]
    with torch.no_grad():
        for layer, op in zip(layers, weighted, strict=True):
            weight, bias = (_array(parsed, graph.tensors[int(i)]) for i in op.inputs[1:])
            layer.weight.copy_(weight.permute(0, 3, 1, 2) if weight.ndim == 4 else weight)
            layer.bias.copy_(bias)
    return net.eval()


def _kind(parsed: schema.ModelT, op: schema.OperatorT) -> str:
    return tflite_file.operator_name(parsed, op)


def _array(parsed: schema.ModelT, tensor: schema.TensorT) -> Tensor:
    flat = np.frombuffer(tflite_file.constant_bytes(parsed, tensor).tobytes(), np.float32)
    return torch.from_numpy(flat.reshape([int(n) for n in tensor.shape]).copy())


def train_data() -> tuple[np.ndarray, np.ndarray]:
    """Return the 5000 training images, uint8 ``[N, 32, 32, 3]``, and their classes."""
    with np.load(FOLDER / "cifar10/train_5000.npz") as archive:
        return archive["x"], archive["y"].astype(np.int64)


def augment(x: Tensor, dice: torch.Generator) -> Tensor:
    """Return a batch moved by up to 4 pixels, and half of it mirrored."""
    across, down = (int(torch.randint(0, 2 * PIXELS_MOVED + 1, (), generator=dice)) for _ in range(2))
    padded = nn.functional.pad(x, (PIXELS_MOVED,) * 4)[:, :, down : down + SIDE, across : across + SIDE]
    mirrored = torch.rand(len(x), 1, 1, 1, generator=dice) < 0.5
    return torch.where(mirrored, padded.flip(3), padded)
