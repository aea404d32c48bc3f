"""``edgepick-agent infer INPUT``: put one input through the active model, as a program on the device would."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgepick_agent.cli import site
from edgepick_agent.cli.completing import model_names
from edgepick_agent.cli.options import checked_name, config_option, json_option, settings_for_commands
from edgepick_agent.cli.render import as_json_text, duration, table
from edgepick_agent.core.settings import AgentSettings
from edgepick_agent.errors import InputError, UnreachableError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.generic]

IMAGES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")
LIKELY = 5
"""Largest values of an output that are shown."""


@click.command()
@click.argument("source", metavar="INPUT", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--model",
    callback=checked_name,
    shell_complete=model_names,
    help="Which model; may be left out when one is active.",
)
@click.option("--sample", type=click.IntRange(0), default=0, show_default=True, help="Which sample of an archive.")
@config_option
@json_option
def infer(*, source: Path, model: str | None, sample: int, config_file: Path, as_json: bool) -> None:
    """Put an image, a .npy array or a sample of an .npz archive through the active model.

    An image is resized to the model's input and given as pixels 0 to 255. An archive holds one array per input by
    name, or x for a model with one input, as those for `edgepick compress`.
    """
    import time

    from edgepick_agent.client import Client

    settings = settings_for_commands(config_file)
    name = model or _only_model(settings)
    with Client(name, path=Path(settings.state_dir) / "run" / f"{name}.sock") as client:
        try:
            inputs = client.metadata()["inputs"]
            feeds = _feeds(source, inputs, sample)
            began = time.perf_counter_ns()
            outputs = client.infer(feeds)
        except (OSError, TimeoutError) as error:
            raise UnreachableError(
                f"{name}: no runner answers ({error})", hint="`edgepick-agent status` says what the model does."
            ) from error
    took = time.perf_counter_ns() - began
    if as_json:
        click.echo(
            as_json_text({"model": name, "took_ns": took, "outputs": {k: v.tolist() for k, v in outputs.items()}})
        )
        return
    click.echo(f"{name}: {duration(took)} over the socket")
    for output, values in outputs.items():
        click.echo(_shown(output, values))


def _only_model(settings: AgentSettings) -> str:
    names = [model.model for model in site.status(settings).models if model.active]
    if len(names) != 1:
        found = ", ".join(names) or "none"
        raise InputError(f"active models: {found}", hint="Name one with --model." if names else "Install one first.")
    return names[0]


def _feeds(source: Path, inputs: list[dict[str, Any]], sample: int) -> "Mapping[str, Array]":
    if source.suffix.lower() in IMAGES:
        return {inputs[0]["name"]: _image(source, inputs[0]["shape"])}
    found = _arrays(source)
    if len(inputs) == 1 and len(found) >= 1 and inputs[0]["name"] not in found:
        found = {inputs[0]["name"]: found.get("x", next(iter(found.values())))}
    missing = [each["name"] for each in inputs if each["name"] not in found]
    if missing:
        raise InputError(f"{source}: no array for the input {missing[0]!r}; it holds {', '.join(found)}")
    return {each["name"]: _fitted(source, found[each["name"]], each["shape"], sample) for each in inputs}


def _arrays(source: Path) -> "dict[str, Array]":
    import numpy as np

    try:
        with source.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            return {"x": loaded} if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded.files}
    except Exception as error:  # whatever the readers of a damaged archive raise: zipfile's, zlib's, numpy's own
        hint = "Give an image, or an array that numpy.save or numpy.savez wrote."
        raise InputError(f"{source}: not an array: {error}", hint=hint) from error


def _fitted(source: Path, array: "Array", shape: list[int], sample: int) -> "Array":
    """Return one sample with the batch of 1 that the model has."""
    import numpy as np

    if array.shape and list(array.shape[1:]) == shape[1:]:
        if sample >= len(array):
            raise InputError(f"{source}: has {len(array)} samples, 0 to {len(array) - 1}; there is no sample {sample}")
        array = array[sample : sample + 1]
    elif list(array.shape) == shape[1:]:
        array = array[None]
    if array.dtype.kind in "iub":
        array = array.astype(np.float32)  # numbers are meant, whatever the variant stores
    return array


def _image(source: Path, shape: list[int]) -> "Array":
    import numpy as np

    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise InputError("reading images needs Pillow", hint="pip install pillow, or give a .npy array.") from error
    if len(shape) != 4 or shape[3] not in {1, 3}:
        raise InputError(f"{source}: the model takes {shape}, which is no image with channels last; give a .npy array")
    try:
        with Image.open(source) as image:
            pixels = image.convert("L" if shape[3] == 1 else "RGB").resize((shape[2], shape[1]))
    except Exception as error:  # whatever a decoder of a damaged image raises
        raise InputError(f"{source}: not an image: {error}") from error
    return np.asarray(pixels, dtype=np.float32).reshape(shape)


def _shown(name: str, values: "Array") -> str:
    flat = values.reshape(-1)
    order = sorted(range(len(flat)), key=lambda i: -float(flat[i]))[:LIKELY]
    title = f"{name} {list(values.shape)}" + (f", the {LIKELY} largest of {len(flat)}" if len(flat) > LIKELY else "")
    return f"{title}\n{table(('class', 'value'), _rows(flat, order))}"


def _rows(flat: "Array", order: list[int]) -> Iterator[tuple[str, str]]:
    yield from ((str(i), f"{float(flat[i]):.6g}") for i in order)
