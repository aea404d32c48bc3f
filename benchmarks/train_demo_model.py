"""Train the demo's model and write everything that the demo ships about it.

    python -m venv train && . train/bin/activate
    pip install torch==2.13.0                  # its build for CPUs is enough, and much smaller
    pip install torch==2.13.0 litert-torch==0.10.0 scikit-learn onnx onnxscript onnxruntime
    python benchmarks/train_demo_model.py --out somewhere      # train and write
    python benchmarks/train_demo_model.py --check              # train and compare with what is shipped

The data are scikit-learn's digits (1797 images of 8x8, no download), enlarged to 32x32. The network is a
residual CNN with the scale of its input (0..255) folded into its first convolution. Version 2 is version 1
trained further, for rollouts of something new. One thread and fixed seeds: on one machine the same files
come out bit for bit; on another the rounding differs, and accuracies agree to about half a point.
"""

import argparse
import copy
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

SIDE = 32
PIXEL_MAX = 255.0
CLASSES = 10
WIDTHS = (16, 24, 32)
CALIBRATION_SAMPLES = 128
EVALUATION_SAMPLES = 500
OPSET = 18
SHIPPED = Path(__file__).resolve().parent.parent / "host_tools" / "edgepick_host" / "demo" / "data"
MAX_SHIPPED_BYTES = 1_000_000
MIN_ACCURACY = 0.97

Answer = Callable[[np.ndarray], np.ndarray]
"""From uint8 images ``[N, 32, 32, 1]`` to probabilities ``[N, 10]``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Images, uint8 ``[N, 32, 32, 1]``, and their labels, int64 ``[N]``."""

    x: np.ndarray
    y: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How long and how hard to train."""

    epochs: int
    peak_rate: float
    batch: int = 64
    label_smoothing: float = 0.05


class Residual(nn.Module):
    """Two 3x3 convolutions and a shortcut; a 1x1 convolution on the shortcut where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride=stride) if stride != 1 else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``[N, outputs, H / stride, W / stride]``."""
        y = torch.relu(self.first_norm(self.first(x)))
        return torch.relu(self.second_norm(self.second(y)) + self.shortcut(x))


class DigitNet(nn.Module):
    """From pixels 0..1, ``[N, 1, 32, 32]``, to logits ``[N, 10]``."""

    def __init__(self) -> None:
        super().__init__()
        a, b, c = WIDTHS
        self.stem = nn.Conv2d(1, a, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(a)
        self.blocks = nn.Sequential(Residual(a, a, 1), Residual(a, a, 1), Residual(a, b, 2), Residual(b, c, 2))
        self.pool: nn.Module = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(c, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        y = self.blocks(torch.relu(self.stem_norm(self.stem(x))))
        return self.head(torch.flatten(self.pool(y), 1))


class SpatialMean(nn.Module):
    """``AdaptiveAvgPool2d(1)`` in other words: the ONNX exporter makes one node of this and five of that.

    The other way round, the ``.tflite`` exporter puts a transpose before this and none before that.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``[N, C]`` of ``[N, C, H, W]``."""
        return x.mean(dim=(2, 3))


class Shipped(nn.Module):
    """The network as it is shipped: pixels 0..255 in, probabilities out, no normalisation layer left."""

    def __init__(self, trained: DigitNet) -> None:
        super().__init__()
        self.net = fold(trained)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return probabilities ``[N, 10]`` of ``[N, 1, 32, 32]``."""
        return torch.softmax(self.net(x), dim=1)


class ChannelsLast(nn.Module):
    """The same for ``[N, 32, 32, 1]``; for ONNX, whose convolutions want channels first."""

    def __init__(self, inner: Shipped) -> None:
        super().__init__()
        self.inner = copy.deepcopy(inner)
        self.inner.net.pool = SpatialMean()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return probabilities ``[N, 10]``."""
        return self.inner(x.permute(0, 3, 1, 2))


def fold(trained: DigitNet) -> DigitNet:
    """Return a copy whose batch norms are part of the convolutions, and which takes pixels 0..255."""
    net = copy.deepcopy(trained).eval()
    net.stem, net.stem_norm = fuse_conv_bn_eval(net.stem, net.stem_norm), nn.Identity()
    for block in net.blocks:
        block.first, block.first_norm = fuse_conv_bn_eval(block.first, block.first_norm), nn.Identity()
        block.second, block.second_norm = fuse_conv_bn_eval(block.second, block.second_norm), nn.Identity()
    with torch.no_grad():
        net.stem.weight /= PIXEL_MAX
    return net


def load_data() -> tuple[Split, Split]:
    """Return the training set and the held-out third, both stratified and always the same."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    small = torch.from_numpy(digits.images).float()[:, None] * (PIXEL_MAX / 16)
    large = nn.functional.interpolate(small, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
    x = large.round().clamp(0, PIXEL_MAX).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    y = digits.target.astype(np.int64)
    train_x, test_x, train_y, test_y = train_test_split(x, y, test_size=1 / 3, stratify=y, random_state=0)
    return Split(x=train_x, y=train_y), Split(x=test_x, y=test_y)


def as_tensor(images: np.ndarray) -> torch.Tensor:
    """Return uint8 ``[N, 32, 32, 1]`` as float ``[N, 1, 32, 32]``, still 0..255."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float()


def augment(x: torch.Tensor, dice: torch.Generator) -> torch.Tensor:
    """Return each image turned by up to 12 degrees, scaled by up to 12 % and moved by up to 2 pixels."""
    count = len(x)
    uniform = torch.rand(count, 4, generator=dice) * 2 - 1
    angle, scale = uniform[:, 0] * 0.21, 1 + uniform[:, 1] * 0.12
    cos, sin, shift = torch.cos(angle) * scale, torch.sin(angle) * scale, uniform[:, 2:] * (2 * 2 / SIDE)
    rows = torch.stack([cos, -sin, shift[:, 0], sin, cos, shift[:, 1]], dim=1).view(count, 2, 3)
    grid = nn.functional.affine_grid(rows, list(x.shape), align_corners=False)
    return nn.functional.grid_sample(x, grid, align_corners=False)


def train(net: DigitNet, data: Split, schedule: Schedule, seed: int) -> None:
    """Train ``net`` in place; one line of progress for every fifth epoch."""
    dice = torch.Generator().manual_seed(seed)
    x, y = as_tensor(data.x) / PIXEL_MAX, torch.from_numpy(data.y)
    steps = -(-len(x) // schedule.batch)
    optimizer = torch.optim.AdamW(net.parameters(), lr=schedule.peak_rate, weight_decay=1e-2)
    rates = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, schedule.peak_rate, epochs=schedule.epochs, steps_per_epoch=steps
    )
    criterion = nn.CrossEntropyLoss(label_smoothing=schedule.label_smoothing)
    for epoch in range(schedule.epochs):
        net.train()
        total = 0.0
        for batch in torch.randperm(len(x), generator=dice).split(schedule.batch):
            loss = criterion(net(augment(x[batch], dice)), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rates.step()
            total += loss.item() * len(batch)
        if epoch % 5 == 4 or epoch + 1 == schedule.epochs:
            print(f"  epoch {epoch + 1:3d}/{schedule.epochs}  loss {total / len(x):.4f}", flush=True)


def write_tflite(model: Shipped, path: Path) -> None:
    """Write ``model`` as ``.tflite`` that takes ``[1, 32, 32, 1]`` without a transpose."""
    import litert_torch

    wrapped = litert_torch.to_channel_last_io(model, args=[0]).eval()
    litert_torch.convert(wrapped, (torch.zeros(1, SIDE, SIDE, 1),)).export(str(path))
    rename_tensors(path)


def rename_tensors(path: Path) -> None:
    """Name every tensor of a ``.tflite`` after its operator; the exporter's names are module paths."""
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model(str(path))
    graph = model.subgraphs[0]
    names: dict[int, str] = {}
    for position, operator in enumerate(graph.operators):
        kind = flatbuffer_utils.opcode_to_name(model, operator.opcodeIndex).lower()
        names |= dict.fromkeys(operator.outputs, f"{position:02d}_{kind}")
        roles = ("input", "weights", "bias") if len(operator.inputs) == 3 else ("input", "operand")
        for role, tensor in zip(roles, operator.inputs, strict=False):
            names.setdefault(tensor, f"{position:02d}_{kind}_{role}")
    names |= {graph.inputs[0]: "image", graph.outputs[0]: "probabilities"}
    for tensor, name in names.items():
        graph.tensors[tensor].name = name.encode()
    for signature in model.signatureDefs:
        signature.inputs[0].name, signature.outputs[0].name = b"image", b"probabilities"
    flatbuffer_utils.write_model(model, str(path))


def write_onnx(model: Shipped, path: Path) -> None:
    """Write ``model`` as ``.onnx`` that takes ``[1, 32, 32, 1]``, without the exporter's stack traces."""
    import onnx

    sample = (torch.zeros(1, SIDE, SIDE, 1),)
    names = {"input_names": ["image"], "output_names": ["probabilities"]}
    program = torch.onnx.export(ChannelsLast(model).eval(), sample, dynamo=True, opset_version=OPSET, **names)
    proto = program.model_proto
    graph = proto.graph
    for holder in (proto, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del holder.metadata_props[:]
        holder.doc_string = ""
    onnx.checker.check_model(proto, full_check=True)
    path.write_bytes(proto.SerializeToString(deterministic=True))


def torch_answer(model: Shipped) -> Answer:
    """Return ``model`` as a function over many images."""

    def answer(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return model(as_tensor(images)).numpy()

    return answer


def tflite_answer(path: Path) -> Answer:
    """Return a ``.tflite`` file as a function over many images."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    source, sink = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def one(image: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(source, image[None].astype(np.float32))
        interpreter.invoke()
        return interpreter.get_tensor(sink)[0]

    return lambda images: np.stack([one(image) for image in images])


def onnx_answer(path: Path) -> Answer:
    """Return an ``.onnx`` file as a function over many images."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda images: np.stack([session.run(None, {name: i[None].astype(np.float32)})[0][0] for i in images])


def accuracy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the share answered as labelled (0..1)."""
    return float(np.mean(probabilities.argmax(axis=1) == labels))


def compare(name: str, model: Shipped, folder: Path, held_out: Split) -> float:
    """Print accuracy and agreement of the three forms of one model; return the torch form's accuracy."""
    reference = torch_answer(model)(held_out.x)
    forms = {
        "torch": reference,
        "tflite": tflite_answer(folder / f"{name}.tflite")(held_out.x),
        "onnx": onnx_answer(folder / f"{name}.onnx")(held_out.x),
    }
    for form, found in forms.items():
        same = np.mean(found.argmax(axis=1) == reference.argmax(axis=1))
        far = np.abs(found - reference).max()
        print(f"{name:<10} {form:<7} {accuracy(found, held_out.y):9.4f} {same:10.4f} {far:12.2e}")
    return accuracy(reference, held_out.y)


def write_split(path: Path, data: Split, count: int) -> None:
    """Write an ``.npz`` with the first ``count`` of ``x`` and ``y``; they are in random order."""
    np.savez_compressed(path, x=data.x[:count], y=data.y[:count])


def produce(args: argparse.Namespace, out: Path) -> dict[str, float]:
    """Train both versions, write everything to ``out``; return the accuracy of each version."""
    learn, held_out = load_data()
    torch.manual_seed(args.seed)
    net, models = DigitNet(), {}
    plans = {
        "digits": Schedule(epochs=args.epochs, peak_rate=8e-3),
        "digits_v2": Schedule(epochs=args.epochs_v2, peak_rate=2e-3, label_smoothing=0.0),
    }
    for offset, (name, schedule) in enumerate(plans.items()):
        print(f"{name}: {schedule.epochs} epochs over {len(learn.x)} images")
        train(net, learn, schedule, args.seed + offset)
        models[name] = Shipped(net).eval()
        write_tflite(models[name], out / f"{name}.tflite")
        write_onnx(models[name], out / f"{name}.onnx")
    write_split(out / "calibration.npz", learn, CALIBRATION_SAMPLES)
    write_split(out / "evaluation.npz", held_out, EVALUATION_SAMPLES)
    print(f"\n{len(held_out.x)} held-out images, {sum(p.numel() for p in models['digits'].parameters())} parameters")
    print(f"{'model':<10} {'form':<7} {'accuracy':>9} {'agreement':>10} {'max |diff|':>12}")
    return {name: compare(name, model, out, held_out) for name, model in models.items()}


def print_sizes(folder: Path) -> int:
    """Print the size of every file in ``folder``; return their sum in bytes."""
    sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir()) if path.is_file()}
    print("\n" + "\n".join(f"{name:<18} {size:8d} bytes" for name, size in sizes.items()))
    print(f"{'in all':<18} {sum(sizes.values()):8d} bytes of {MAX_SHIPPED_BYTES}")
    return sum(sizes.values())


def check(names: list[str], fresh: Path) -> bool:
    """Print what is shipped beside what was just trained; true if their accuracies are within a point."""
    with np.load(SHIPPED / "evaluation.npz") as archive:
        held_out = Split(x=archive["x"], y=archive["y"])
    print(f"\n{'model':<10} {'shipped':>9} {'trained':>9} {'files':>12}")
    close = True
    for name in names:
        shipped, found = (
            accuracy(tflite_answer(folder / f"{name}.tflite")(held_out.x), held_out.y) for folder in (SHIPPED, fresh)
        )
        files = (f"{name}.tflite", f"{name}.onnx")
        same = all((fresh / file).read_bytes() == (SHIPPED / file).read_bytes() for file in files)
        print(f"{name:<10} {shipped:9.4f} {found:9.4f} {'identical' if same else 'differ':>12}")
        close = close and abs(shipped - found) <= 0.01
    return close


def parse_arguments() -> argparse.Namespace:
    """Return the command line's values."""
    parser = argparse.ArgumentParser(description="Train the demo's model.")
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--out", type=Path, help="folder to write the models and data to")
    target.add_argument("--check", action="store_true", help="train and compare with what is shipped")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--epochs", type=int, default=30, help="for version 1")
    parser.add_argument("--epochs-v2", type=int, default=15, help="further epochs for version 2")
    return parser.parse_args()


def main() -> int:
    """Train, write, print; 0 if the result is good enough to ship (or as good as what is shipped)."""
    args = parse_arguments()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(mode=True)
    with tempfile.TemporaryDirectory() as scratch:
        out: Path = args.out or Path(scratch)
        out.mkdir(parents=True, exist_ok=True)
        found = produce(args, out)
        if args.check:
            return 0 if check(list(found), out) else 1
        return 0 if print_sizes(out) <= MAX_SHIPPED_BYTES and min(found.values()) >= MIN_ACCURACY else 1


if __name__ == "__main__":
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    raise SystemExit(main())
