"""ONNX Runtime: .onnx models on the CPU, and on Jetson through CUDA or TensorRT."""

import re
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepick_agent.adapters import native_stderr, tensorrt
from edgepick_agent.adapters.accelerators import first_that_works
from edgepick_agent.adapters.feed_check import FeedCheck
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
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
PROVIDERS = {"cpu": CPU, "cuda": CUDA, "tensorrt": tensorrt.PROVIDER}
"""Short name -> provider; a provider's own name is taken as it is."""

DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(string)": "str",
}
"""ONNX type -> numpy name, where the two differ."""

ERRORS_ONLY = 3
UNKNOWN_OPTION = re.compile(r"[Uu]nknown provider option:? \W*(\w+)")


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
    session = create(ort, model, choice, provider)
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


def create(ort: Any, model: Path, choice: RuntimeChoice, provider: str, *, profile: Path | None = None) -> Any:
    """Return ONNX Runtime's session on ``provider``; one with a ``profile`` writes where its time goes.

    Raises:
        ModelLoadError: The file is no model that it can read.
        AcceleratorError: The provider does not take it.
    """
    options = _session_options(ort, choice, provider)
    if profile:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    own = _provider_options(provider, model)
    opened = _open(ort, model, options, _providers(ort, choice, provider, own))
    for _ in range(len(own) + 1):
        if isinstance(opened, _Refused) and _is_eased(own, opened.why):
            opened = _open(ort, model, options, _providers(ort, choice, provider, own))
    if not isinstance(opened, _Refused):
        return opened
    if provider == CPU:
        raise unloadable(model, RuntimeName.ONNXRUNTIME.value, opened.why) from opened.error
    raise AcceleratorError(f"{provider} refused {model.name}: {opened.why}") from opened.error


@dataclass(frozen=True, slots=True)
class _Refused:
    """No session was to be had."""

    why: str
    error: Exception


def _open(ort: Any, model: Path, options: Any, providers: list[tuple[str, dict[str, str]]]) -> Any:
    """Return the session, or why there is none."""
    with native_stderr.captured() as said, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ort.InferenceSession(str(model), options, providers=providers)
        # onnxruntime's own exceptions have no common root but Exception.
        except Exception as error:  # noqa: BLE001
            failure = error
    return _Refused(one_line(f"{failure} {said.errors}"), failure)


def _is_eased(own: dict[str, str], why: str) -> bool:
    """Return whether less is asked of the provider now: without an option it does not know, without old engines."""
    unknown = UNKNOWN_OPTION.search(why)
    if unknown and own.pop(unknown[1], None):
        return True
    # An engine may be damaged by a power cut, or be another version's.
    return tensorrt.forget_engines(own)


def _providers(ort: Any, choice: RuntimeChoice, provider: str, own: dict[str, str]) -> list[tuple[str, dict[str, str]]]:
    """Return the wanted provider, and who takes what it leaves: for TensorRT the GPU it runs on, then the CPU."""
    found = [(provider, own)]
    if (
        provider == tensorrt.PROVIDER
        and CUDA in ort.get_available_providers()
        and {"cuda", CUDA} & {*choice.accelerators}
    ):
        found.append((CUDA, {}))
    return found if provider == CPU else [*found, (CPU, {})]


def _session_options(ort: Any, choice: RuntimeChoice, provider: str) -> Any:
    """Return the options of a session whose graph goes to ``provider`` first."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = choice.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = ERRORS_ONLY
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if provider != CPU and not {"cpu", CPU} & set(choice.accelerators):
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    return options


def _provider_options(provider: str, model: Path) -> dict[str, str]:
    """Return the options of a provider: for TensorRT, where its engines are kept, and what it may compute in."""
    return tensorrt.tensorrt_options(model, str(module().__version__)) if provider == tensorrt.PROVIDER else {}


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
        self._check = FeedCheck(self.inputs)

    @property
    def arena_bytes(self) -> int | None:
        """``None``: ONNX Runtime's arena grows as it likes and is not told."""
        return None

    def run(self, feeds: Mapping[str, "Array"]) -> list["Array"]:
        """Run one inference; see :meth:`edgepick_agent.ports.Session.run`."""
        self._check.is_new(feeds)
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
