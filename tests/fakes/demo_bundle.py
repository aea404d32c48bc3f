"""The demo's float model as a signed variant that real runners can run."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np

import edgepick_host.demo
from edgepick_wire import codec, envelope
from edgepick_wire.envelope import DocumentType
from edgepick_wire.manifest import manifest_digest
from fakes.host_stand_in import RELEASE, Bundle, bundle, entry
from wire.wire_keys import sign

DATA = Path(edgepick_host.demo.__file__).parent / "data"


def real_bundle(version: str = "1") -> Bundle:
    """Return the float model with eight golden inputs, answered by LiteRT itself."""
    from ai_edge_litert.interpreter import Interpreter

    model = (DATA / "digits.tflite").read_bytes()
    interpreter = Interpreter(model_content=model)
    interpreter.allocate_tensors()
    x = np.load(DATA / "evaluation.npz")["x"][:8].astype(np.float32)
    outputs = []
    for sample in x:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], sample[None])
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0])
    buffer = io.BytesIO()
    np.savez(buffer, x=x, expected=np.array(outputs), version=np.frombuffer(version.encode(), np.uint8))
    return signed(version, {"model.tflite": model, "golden.npz": buffer.getvalue()})


def signed(version: str, files: dict[str, bytes]) -> Bundle:
    """Return a signed variant of these files."""
    entries = {name: entry(name, data, 65536) for name, data in files.items()}
    content = replace(bundle(version).content, files=tuple(file for file, _ in entries.values()))
    payload = codec.encode(content)
    return Bundle(
        content=content,
        raw=envelope.pack(sign(DocumentType.MANIFEST, payload, [RELEASE])),
        digest=manifest_digest(payload),
        files=files,
        chunks={digest: data for _, parts in entries.values() for digest, data in parts.items()},
    )
