"""ONNX Runtime: .onnx models on the CPU, and on Jetson through CUDA or TensorRT."""

import os
import warnings
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepick_agent.adapters import native_stderr
from edgepick_agent.adapters.accelerators import first_that_works
from edgepick_agent.adapters.feed_check import check_feeds
from edgepick_agent.adapters.model_file import one_line, read_head, unloadable
from edgepick_agent.core.profile import Placement
from edgepick_agent.errors import AcceleratorError, InferenceError, RuntimeMissingError
from edgepick_agent.ports import TensorSpec
from edgepick_wire.manifest import RuntimeChoice, RuntimeName
from edgepick_wire.messages import RuntimeAvailable
from edgepick_wire.metrics import RuntimeUsed

if TYPE_CHECKING:
    from edgepick_agent.ports import Array

HINT = "install it: pip install 'edgepick[onnx]'"
ENGINE_CACHE = "EDGEPICK_ENGINE_CACHE"
"""Environment variable: folder where TensorRT keeps built engines; building takes minutes."""

CPU = "CPUExecutionProvider"
PROVIDERS = {"cpu": CPU, "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
"""Short name -> provider; a provider's own name is taken as it is."""

DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(string)": "str",
}
"""ONNX type -> numpy name, where the two differ."""

ERRORS_ONLY = 3


class OnnxRuntime:
    """Keeps :class:`edgepick_agent.ports.Runtime` with ``onnxruntime``."""

    def available(self) -> RuntimeAvailable | None:
        """Return the installed version and the execution providers built into it."""
        try:
            ort = module()
        except RuntimeMissingError:
            return None
        others = [p for p in ort.get_available_providers() if p not in (CPU, "AzureExecutionProvider")]
        return RuntimeAvailable(
            name=RuntimeName.ONNXRUNTIME.value, version=ort.__version__, accelerators=("cpu", *others)
        )

    def load(self, model: Path, choice: RuntimeChoice) -> "OnnxSession":
        """Return the loaded model; see :meth:`edgepick_agent.ports.Runtime.load`."""
        ort = module()
        read_head(model)
        return first_that_works(
            RuntimeName.ONNXRUNTIME.value,
            choice.accelerators,
            lambda name, why: _load_on(ort, model, choice, name, why),
        )


def module() -> Any:
    """Return the package.

    Raises:
        RuntimeMissingError: It is not installed.
    """
    try:
        with native_stderr.captured():
            import onnxruntime
    except ImportError as error:
        raise RuntimeMissingError(f"onnxruntime is not installed: {error}", hint=HINT) from error
    return onnxruntime


def _load_on(ort: Any, model: Path, choice: RuntimeChoice, accelerator: str, fallback: str | None) -> "OnnxSession":
    provider = PROVIDERS.get(accelerator, accelerator)
    if provider not in ort.get_available_providers():
        raise AcceleratorError(
            f"{provider} is not in this onnxruntime, which has {', '.join(ort.get_available_providers())}"
        )
    session = _create(ort, model, choice, provider)
    if provider not in session.get_providers():
        raise AcceleratorError(f"{provider} did not start on this machine")
    placement = place(session, provider, fallback)
    used = RuntimeUsed(
        name=RuntimeName.ONNXRUNTIME.value,
        version=ort.__version__,
        accelerator="cpu" if provider == CPU else provider,
        nodes=sum(part.nodes for part in placement) if placement else None,
        accelerated_nodes=sum(p.nodes for p in placement if p.provider == provider) if placement else None,
        fallback_reason=fallback,
        threads=choice.threads,
    )
    return OnnxSession(session, used, placement)


def _create(ort: Any, model: Path, choice: RuntimeChoice, provider: str) -> Any:
    options = session_options(ort, choice, provider)
    providers = [(provider, provider_options(provider, model))]
    providers += [] if provider == CPU else [(CPU, {})]
    with native_stderr.captured() as said, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ort.InferenceSession(str(model), options, providers=providers)
        # onnxruntime's own exceptions have no common root but Exception.
        except Exception as error:  # noqa: BLE001
            failure = error
    why = one_line(f"{failure} {said.errors}")
    if provider == CPU:
        raise unloadable(model, RuntimeName.ONNXRUNTIME.value, why) from failure
    raise AcceleratorError(f"{provider} refused {model.name}: {why}") from failure


def session_options(ort: Any, choice: RuntimeChoice, provider: str) -> Any:
    """Return the options of a session whose graph goes to ``provider`` first."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = choice.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = ERRORS_ONLY
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if provider != CPU and not {"cpu", CPU} & set(choice.accelerators):
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    return options


def provider_options(provider: str, model: Path) -> dict[str, str]:
    """Return the options of a provider: for TensorRT, a cache of built engines and int8 for QDQ models."""
    if provider != PROVIDERS["tensorrt"]:
        return {}
    options = {"trt_int8_enable": "True"} if b"QuantizeLinear" in model.read_bytes() else {}
    cache = os.environ.get(ENGINE_CACHE)
    if cache:
        options |= {
            "trt_engine_cache_enable": "True",
            "trt_engine_cache_path": cache,
            "trt_timing_cache_enable": "True",
            "trt_timing_cache_path": cache,
        }
    return options


def place(session: Any, provider: str, fallback: str | None) -> tuple[Placement, ...]:
    """Return how many nodes each provider took, the wanted one first; empty if this version does not tell."""
    try:
        parts = [
            (part.ep_name, [n.op_type for n in part.get_nodes()])
            for part in session.get_provider_graph_assignment_info()
        ]
    # Older versions do not have it; a build without it refuses with an exception of its own.
    except Exception:  # noqa: BLE001
        return ()
    kinds: dict[str, Counter[str]] = {}
    for name, types in parts:
        kinds.setdefault(name, Counter()).update(types)
    return tuple(
        Placement(
            provider=name,
            nodes=sum(kinds[name].values()),
            kinds=dict(sorted(kinds[name].items())),
            reason=_why_here(name, provider, fallback),
        )
        for name in sorted(kinds, key=lambda name: (name != provider, name))
    )


def _why_here(name: str, provider: str, fallback: str | None) -> str | None:
    if name == provider:
        return fallback
    return f"{provider} has no kernel for these operators, types or shapes, or onnxruntime prefers {name} for them"


class OnnxSession:
    """A loaded inference session; keeps :class:`edgepick_agent.ports.Session`."""

    def __init__(self, session: Any, used: RuntimeUsed, placement: tuple[Placement, ...] = ()) -> None:
        self._session = session
        self.placement = placement
        self.inputs = tuple(_tensor_spec(argument) for argument in session.get_inputs())
        self.outputs = tuple(_tensor_spec(argument) for argument in session.get_outputs())
        self.used = used

    @property
    def arena_bytes(self) -> int | None:
        """``None``: ONNX Runtime's arena grows as it likes and is not told."""
        return None

    def run(self, feeds: Mapping[str, "Array"]) -> list["Array"]:
        """Run one inference; see :meth:`edgepick_agent.ports.Session.run`."""
        check_feeds(self.inputs, feeds)
        try:
            outputs: list[Array] = self._session.run(None, dict(feeds))
        except Exception as error:
            raise InferenceError(f"onnxruntime: {one_line(error)}") from error
        return outputs

    def close(self) -> None:
        """Free the session."""
        self._session = None


def _tensor_spec(argument: Any) -> TensorSpec:
    inner = argument.type.removeprefix("tensor(").removesuffix(")")
    return TensorSpec(
        name=argument.name,
        shape=tuple(size if isinstance(size, int) else -1 for size in argument.shape),
        dtype=DTYPES.get(argument.type, inner),
    )
