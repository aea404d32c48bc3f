"""What the demo does wrong on purpose: a variant that answers wrongly, a manifest that was tampered with.

Both are made from the real ones by as little as possible, so that nothing but the check in question can notice.
"""

import dataclasses
import shutil
from pathlib import Path

from edgepick_host.core.variants import VARIANTS_FILE, Variant, VariantSet
from edgepick_host.errors import StateError
from edgepick_wire import codec, envelope
from edgepick_wire.ids import digest_of
from edgepick_wire.manifest import ModelFormat, manifest_digest, parse_manifest

DENSE = "FULLY_CONNECTED"


def wrong_answers(model: bytes) -> bytes:
    """Return a ``.tflite`` whose last dense layer has its rows shifted by one: class 3 is called 4, and so on.

    It loads, runs, and is as fast and as large as the right one.

    Raises:
        StateError: There is no dense layer to shift.
    """
    import numpy as np
    from ai_edge_litert.tools import flatbuffer_utils

    parsed = flatbuffer_utils.read_model_from_bytearray(bytearray(model))
    graph = parsed.subgraphs[0]
    names = [flatbuffer_utils.opcode_to_name(parsed, operator.opcodeIndex) for operator in graph.operators]
    if DENSE not in names:
        raise StateError("the model has no dense layer whose answers could be mixed up")
    last = graph.operators[len(names) - 1 - names[::-1].index(DENSE)]
    weights = graph.tensors[last.inputs[1]]
    buffer = parsed.buffers[weights.buffer]
    rows = int(weights.shape[0])
    buffer.data = np.roll(np.asarray(buffer.data, dtype=np.uint8).reshape(rows, -1), 1, axis=0).ravel()
    return bytes(flatbuffer_utils.convert_object_to_bytearray(parsed))


def write_wrong_variant(found: VariantSet, folder: Path, profile: str, out: Path) -> Variant:
    """Return a variant that answers wrongly, alone in ``out``, in the form that `edgepick publish` takes.

    Args:
        found: The right variants.
        folder: Where they are.
        profile: Kind of device that it must be for.
        out: A new folder.

    Raises:
        StateError: No variant for this profile can be spoilt.
    """
    right = next((v for v in found.variants if profile in v.profiles and v.recipe.format is ModelFormat.TFLITE), None)
    if right is None:
        raise StateError(f"no .tflite variant for {profile}")
    model = wrong_answers((folder / right.folder / right.file).read_bytes())
    place = out / right.folder
    place.mkdir(parents=True)
    (place / right.file).write_bytes(model)
    shutil.copyfile(folder / found.golden, out / found.golden)
    wrong = dataclasses.replace(
        right, sha256=digest_of(model), size_bytes=len(model), profiles=(profile,), pareto=(profile,)
    )
    alone = dataclasses.replace(found, profiles=(profile,), variants=(wrong,), rejections=())
    (out / VARIANTS_FILE).write_bytes(codec.encode_document(alone, indent=2))
    return wrong


def tampered(signed: bytes, *, version: str) -> tuple[str, bytes]:
    """Return digest and bytes of a signed manifest with another version written into it, its signatures unchanged.

    The digest fits the changed bytes, so nothing but the signature can give it away.
    """
    original = envelope.unpack(signed)
    payload = codec.encode(dataclasses.replace(parse_manifest(original.payload), version=version))
    return manifest_digest(payload), envelope.pack(dataclasses.replace(original, payload=payload))
