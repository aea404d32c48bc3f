"""A bundle's manifest: one variant of one model, what it needs, and what its files must be.

A manifest is signed by the release role and named by the digest of its exact bytes.
Chunks are addressed by their own digest. A file's *index* is the concatenation of its chunks'
32-byte digests, itself cut into chunks; the manifest lists the index's chunks. So a manifest stays
small however large the file is, and one mechanism fetches everything.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgepick_wire import codec, limits
from edgepick_wire.enums import StrEnum
from edgepick_wire.errors import LimitError, MalformedError
from edgepick_wire.ids import check_digest, check_name, digest_of
from edgepick_wire.sources import MAX_SOURCES, check_source

MANIFEST_SCHEMA = 1
DIGEST_BYTES = 32

KNOWN_REQUIREMENTS = frozenset({"golden", "memory-cap"})
"""What a manifest may require of an agent, in this version of the protocol."""

ZSTD = "zstd"
ALIGNED = "aligned-zstd"
BSDIFF = "bsdiff"
ALGORITHMS = frozenset({ZSTD, ALIGNED, BSDIFF})
"""How an :class:`Encoding` may be made, in this version of the protocol; PROTOCOL.md describes each."""


class ModelFormat(StrEnum):
    """How the model file is to be read."""

    TFLITE = "tflite"
    ONNX = "onnx"


class RuntimeName(StrEnum):
    """Who can execute a model."""

    LITERT = "litert"
    TFLITE_RUNTIME = "tflite_runtime"
    ONNXRUNTIME = "onnxruntime"
    TFLM = "tflm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """Another, smaller way to come by a file; who does not know its algorithm takes the file itself, if it is there.

    Attributes:
        algorithm: How to decode, one of :data:`ALGORITHMS`; text, so that a later one harms nobody.
        size: Bytes of the encoded form.
        sha256: Digest of the encoded form.
        chunk_size: Bytes per chunk of it; the last may be shorter.
        index: Digests of the chunks of its index.
        base: Digest of the whole file that it is a difference to; ``None`` if it stands alone.
        window_bytes: Memory that decoding needs beside the file that is read and the one that is written.
    """

    algorithm: str
    size: int
    sha256: str
    chunk_size: int
    index: tuple[str, ...]
    base: str | None = None
    window_bytes: int = 0

    def __post_init__(self) -> None:
        """Refuse sizes out of bounds and an index of the wrong length."""
        check_name("algorithm", self.algorithm)
        if self.base is not None:
            check_digest(self.base)
        _check_chunked(f"encoding {self.algorithm}", self)

    @property
    def chunks(self) -> int:
        """Number of chunks of the encoded form."""
        return chunk_count(self.size, self.chunk_size)

    @property
    def index_size(self) -> int:
        """Bytes of the encoded form's index."""
        return self.chunks * DIGEST_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """One file of a bundle.

    Attributes:
        name: File name, without folders.
        size: Bytes.
        sha256: Digest of the whole file.
        chunk_size: Bytes per chunk; the last may be shorter.
        index: Digests of the chunks of the file's index.
        encodings: Smaller ways to come by it. Size and digest above are always those of the file itself.
    """

    name: str
    size: int
    sha256: str
    chunk_size: int
    index: tuple[str, ...]
    encodings: tuple[Encoding, ...] = ()

    def __post_init__(self) -> None:
        """Refuse sizes out of bounds and an index of the wrong length."""
        check_name("file", self.name)
        _check_chunked(f"file {self.name}", self)

    @property
    def chunks(self) -> int:
        """Number of chunks of the file."""
        return chunk_count(self.size, self.chunk_size)

    @property
    def index_size(self) -> int:
        """Bytes of the file's index."""
        return self.chunks * DIGEST_BYTES


def _check_chunked(what: str, form: FileEntry | Encoding) -> None:
    for digest in (form.sha256, *form.index):
        check_digest(digest)
    if not 0 < form.size <= limits.MAX_FILE_BYTES:
        raise LimitError(f"{what}: {form.size} bytes; allowed are 1 to {limits.MAX_FILE_BYTES}")
    if not limits.MIN_CHUNK_BYTES <= form.chunk_size <= limits.MAX_CHUNK_BYTES:
        raise LimitError(f"{what}: chunks of {form.chunk_size} bytes")
    if len(form.index) != chunk_count(form.index_size, form.chunk_size):
        raise MalformedError(f"{what}: the index has {len(form.index)} chunks, which does not fit its size")


def chunk_count(size: int, chunk_size: int) -> int:
    """Return how many chunks hold ``size`` bytes."""
    return -(-size // chunk_size)


def split_index(index: bytes) -> tuple[str, ...]:
    """Return the chunk digests that an index holds, in file order."""
    return tuple(index[i : i + DIGEST_BYTES].hex() for i in range(0, len(index), DIGEST_BYTES))


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeChoice:
    """One way to run the model; the first that the device has is taken.

    Attributes:
        name: The runtime.
        accelerators: Delegates or execution providers in order of preference; falling back to the
            CPU is allowed only if "cpu" is among them.
        threads: Intra-operator threads.
    """

    name: RuntimeName
    accelerators: tuple[str, ...] = ("cpu",)
    threads: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenSpec:
    """The bundle's self-test: an ``.npz`` and how far from it the answers may be.

    The archive holds ``x`` (or ``x_<input name>``): N model inputs as float32 or integers in the
    float model's scale; ``expected``: the float model's first output, float32 ``[N, ...]``;
    optionally ``y``: int64 labels ``[N]``.

    Attributes:
        file: Name of the archive among the bundle's files.
        min_agreement: Least share of samples whose arg-max equals the float model's (0..1).
        max_mean_abs_error: Largest mean absolute difference to ``expected``.
    """

    file: str
    min_agreement: float
    max_mean_abs_error: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLimits:
    """What the runner of this model may use before it is killed.

    Attributes:
        peak_rss_bytes: Memory cap of the runner process; ``None`` leaves it to the device.
        start_seconds: Time to load the model and answer the first health check.
        inference_seconds: Longest single inference.
    """

    peak_rss_bytes: int | None = None
    start_seconds: float = 60.0
    inference_seconds: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One variant of one model for one or more profiles.

    Attributes:
        fleet: The fleet it is for.
        model: Name of the model, the unit that has slots on a device.
        version: A label for people; identity is the digest.
        variant: Name of the variant, e.g. ``static_wi8_ai8``.
        security_epoch: Never goes down on a device; independent of the version.
        profiles: Kinds of device that may run it.
        format: How to read ``model_file``.
        runtimes: Ways to run it, preferred first.
        model_file: Which of ``files`` is the model.
        files: Everything in the bundle.
        golden: The self-test.
        limits: What the runner may use.
        requires: Features without which an agent must not touch it; also algorithms of encodings, without which
            some of its files are not to be had.
        provenance: Where it comes from: recipe, digests, tool versions; for people and reports.
        sources: URL templates under which the files lie too, byte for byte; they may all be useless.
    """

    schema: int = MANIFEST_SCHEMA
    fleet: str
    model: str
    version: str
    variant: str
    security_epoch: int
    profiles: tuple[str, ...]
    format: ModelFormat
    runtimes: tuple[RuntimeChoice, ...]
    model_file: str
    files: tuple[FileEntry, ...]
    golden: GoldenSpec | None = None
    limits: RunLimits = RunLimits()
    requires: tuple[str, ...] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)
    sources: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse names out of the alphabet and references to files that are not there."""
        check_name("fleet", self.fleet)
        check_name("model", self.model)
        check_name("variant", self.variant)
        names = [f.name for f in self.files]
        if len(set(names)) != len(names):
            raise MalformedError("two files of one bundle have the same name")
        for needed in (self.model_file, *((self.golden.file,) if self.golden else ())):
            if needed not in names:
                raise MalformedError(f"file {needed!r} is referred to but not listed")
        if not self.runtimes or not self.profiles:
            raise MalformedError("a manifest names at least one runtime and one profile")
        if self.security_epoch < 0:
            raise MalformedError(f"security_epoch {self.security_epoch}: must not be negative")
        if len(self.sources) > MAX_SOURCES:
            raise LimitError(f"{len(self.sources)} sources; at most {MAX_SOURCES} are allowed")
        for source in self.sources:
            check_source(source)

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(f.size for f in self.files)

    def has_own_chunks(self, entry: FileEntry) -> bool:
        """Return whether a file's own chunks are published: not if a form that stands alone is required instead."""
        return not any(form.base is None and form.algorithm in self.requires for form in entry.encodings)

    @property
    def published(self) -> tuple[FileEntry | Encoding, ...]:
        """Everything whose chunks are published."""
        own = tuple(entry for entry in self.files if self.has_own_chunks(entry))
        return (*own, *(encoding for entry in self.files for encoding in entry.encodings))

    @property
    def downloads(self) -> frozenset[str]:
        """Digests of everything that may be fetched for it: its files and their encoded forms."""
        encoded = (encoding.sha256 for f in self.files for encoding in f.encodings)
        return frozenset((*(f.sha256 for f in self.files), *encoded))


def parse_manifest(payload: bytes) -> Manifest:
    """Return the manifest in the (verified) payload of a signed document.

    Raises:
        WireError: Malformed or out of limits.
    """
    return codec.decode(Manifest, payload)


def manifest_digest(payload: bytes) -> str:
    """Return the name of a manifest: the digest of its exact payload bytes."""
    return digest_of(payload)
