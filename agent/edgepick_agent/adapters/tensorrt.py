"""TensorRT behind ONNX Runtime: what it may compute in, and where it keeps the engines that take minutes to build.

Facts (onnxruntime.ai, TensorRT execution provider; TensorRT's own documentation):

- An engine holds for one model, one GPU and one version. ONNX Runtime names an engine's file by the graph's names, not
  by its weights, and each of our models is called ``model.onnx``: a newer version would get the older one's weights. So
  each model has a folder of its own, named by its digest. The timing cache is about layers, and all models share it.
- Scales in Q/DQ pairs are explicit quantization: int8 is switched on, and no calibration table is needed or given.
- Half precision is switched on for models that hold it, and for the layers between Q/DQ pairs. A float32 model stays
  float32: it was judged as that, and its float16 variant stands beside it.
"""

import hashlib
import mmap
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from edgepick_agent.core.onnx_content import OnnxContent, read_content

PROVIDER = "TensorrtExecutionProvider"
ENGINE_CACHE = "EDGEPICK_ENGINE_CACHE"
"""Environment variable: folder in which engines are kept; without it, none are."""

KEPT_MODELS = 8
"""Models whose engines are kept, those used last: more than a device measures and serves at once."""

ON = "True"
BLOCK_BYTES = 1 << 20


def tensorrt_options(model: Path, version: str) -> dict[str, str]:
    """Return the provider's options for a model.

    Args:
        model: An ONNX file.
        version: Of ONNX Runtime.
    """
    content = model_content(model)
    options = {"trt_int8_enable": ON} if content.quantized else {}
    if content.quantized or content.half:
        options["trt_fp16_enable"] = ON
    cache = os.environ.get(ENGINE_CACHE)
    return options | (_cache_options(Path(cache), model, version) if cache else {})


def model_content(model: Path) -> OnnxContent:
    """Return what an ONNX file holds."""
    with model.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:
            return read_content(b"")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return read_content(content)


def _cache_options(cache: Path, model: Path, version: str) -> dict[str, str]:
    engines, timing = cache / "engines" / f"{version}-{_digest(model)}", cache / "timing"
    for folder in (engines, timing):
        folder.mkdir(parents=True, exist_ok=True)
    os.utime(engines)
    _forget_old(engines)
    return {
        "trt_engine_cache_enable": ON,
        "trt_engine_cache_path": str(engines),
        "trt_timing_cache_enable": ON,
        "trt_timing_cache_path": str(timing),
    }


def forget_engines(options: Mapping[str, str]) -> bool:
    """Return whether there were engines for these options; there are none any more."""
    folder = Path(options.get("trt_engine_cache_path", os.devnull))
    if not folder.is_dir() or not any(folder.iterdir()):
        return False
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(exist_ok=True)
    return True


def _forget_old(newest: Path) -> None:
    """Drop the engines of the models that were used longest ago; one that runs has its engine in memory."""
    with suppress(OSError):
        others = sorted(newest.parent.iterdir(), key=lambda folder: folder.stat().st_mtime_ns, reverse=True)
        for folder in [folder for folder in others if folder != newest][KEPT_MODELS - 1 :]:
            shutil.rmtree(folder, ignore_errors=True)


def _digest(model: Path) -> str:
    digest = hashlib.sha256()
    with model.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()[:32]
