"""The task file of the demo's model: the digits network that is shipped, and scikit-learn's digits to train it on.

    edgepick compress --task task.py --calibration calibration.npz --evaluation evaluation.npz ...

An example to copy: it needs torch and scikit-learn, and nothing of edgepick but the shipped weights beside it. The
training set and the held-out third are those that ``benchmarks/train_demo_model.py`` trained the network with.
"""

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

channels_last = True
"""Data files are ``[N, 32, 32, 1]``; the network takes ``[N, 1, 32, 32]``."""

SIDE = 32
PIXEL_MAX = 255.0
CLASSES = 10
WIDTHS = (16, 24, 32)
STUDENT_WIDTHS = (12, 18, 24)
"""Three quarters: a bit more than half of the parameters."""

WEIGHTS = Path(__file__).parent / "data" / "digits.onnx"
SHIPPED_PREFIX = "inner.net."
"""Of the names that the shipped ONNX file gives the network's weights."""


class Residual(nn.Module):
    """Two 3x3 convolutions and a shortcut; a 1x1 convolution on the shortcut where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int, *, norm: bool) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1)
        self.first_norm = nn.BatchNorm2d(outputs) if norm else nn.Identity()
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.second_norm = nn.BatchNorm2d(outputs) if norm else nn.Identity()
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride=stride) if stride != 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[N, outputs, H / stride, W / stride]``."""
        y = torch.relu(self.first_norm(self.first(x)))
        return torch.relu(self.second_norm(self.second(y)) + self.shortcut(x))


class DigitNet(nn.Module):
    """From pixels 0..255, ``[N, 1, 32, 32]``, to probabilities ``[N, 10]``.

    Args:
        widths: Channels of the three stages.
        norm: With batch norms, to train from the start; the shipped weights have them folded.
    """

    def __init__(self, widths: tuple[int, int, int] = WIDTHS, *, norm: bool = False) -> None:
        super().__init__()
        a, b, c = widths
        self.stem = nn.Conv2d(1, a, 3, padding=1)
        self.stem_norm = nn.BatchNorm2d(a) if norm else nn.Identity()
        shapes = ((a, a, 1), (a, a, 1), (a, b, 2), (b, c, 2))
        self.blocks = nn.Sequential(*(Residual(i, o, stride, norm=norm) for i, o, stride in shapes))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(c, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Return probabilities."""
        y = self.blocks(torch.relu(self.stem_norm(self.stem(x))))
        return torch.softmax(self.head(torch.flatten(self.pool(y), 1)), dim=1)


def model() -> nn.Module:
    """Return the network with the weights of the shipped ONNX file."""
    stored = onnx.load(str(WEIGHTS)).graph.initializer
    weights = {
        each.name.removeprefix(SHIPPED_PREFIX): torch.from_numpy(numpy_helper.to_array(each).copy())
        for each in stored
        if each.name.startswith(SHIPPED_PREFIX)
    }
    net = DigitNet()
    net.load_state_dict(weights)
    return net


def student() -> nn.Module:
    """Return a network of three quarters of the width, not trained."""
    net = DigitNet(STUDENT_WIDTHS, norm=True)
    with torch.no_grad():
        net.stem.weight /= PIXEL_MAX
    return net


def train_data() -> tuple[np.ndarray, np.ndarray]:
    """Return 1198 images, uint8 ``[N, 32, 32, 1]``, and their digits; none of them is in ``evaluation.npz``."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    small = torch.from_numpy(digits.images).float()[:, None] * (PIXEL_MAX / 16)
    large = nn.functional.interpolate(small, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
    x = large.round().clamp(0, PIXEL_MAX).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    y = digits.target.astype(np.int64)
    train_x, _, train_y, _ = train_test_split(x, y, test_size=1 / 3, stratify=y, random_state=0)
    return train_x, train_y


def augment(x: Tensor, dice: torch.Generator) -> Tensor:
    """Return each image turned by up to 12 degrees, scaled by up to 12 % and moved by up to 2 pixels."""
    count = len(x)
    uniform = torch.rand(count, 4, generator=dice) * 2 - 1
    angle, scale = uniform[:, 0] * 0.21, 1 + uniform[:, 1] * 0.12
    cos, sin, shift = torch.cos(angle) * scale, torch.sin(angle) * scale, uniform[:, 2:] * (2 * 2 / SIDE)
    rows = torch.stack([cos, -sin, shift[:, 0], sin, cos, shift[:, 1]], dim=1).view(count, 2, 3)
    grid = nn.functional.affine_grid(rows, list(x.shape), align_corners=False)
    return nn.functional.grid_sample(x, grid, align_corners=False)
