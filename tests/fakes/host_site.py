"""A host's working directory for tests: keys, settings, and a directory of variants that nobody compressed."""

import hashlib
import json
import random
from dataclasses import dataclass
from pathlib import Path

from edgepick_host import app
from edgepick_host.cli.main import run
from edgepick_host.config import read_settings
from edgepick_host.core.settings import HostSettings
from edgepick_host.core.variants import Quality, Recipe, Step, Variant, VariantSet
from edgepick_wire import topics
from edgepick_wire.codec import encode_document
from edgepick_wire.manifest import ModelFormat, parse_manifest

FLEET = "testers"


@dataclass(frozen=True)
class Site:
    """A folder that stands for the operator's; the test has changed into it."""

    folder: Path

    @property
    def keys(self) -> Path:
        return self.folder / "keys"

    def settings(self, **flags: str) -> HostSettings:
        named = {"broker.url" if key == "broker" else key: value for key, value in flags.items()}
        return read_settings(folder=self.folder, environment={}, flags=named, home=self.folder)


def new_site(folder: Path) -> Site:
    """Return a site with keys, made by the command itself."""
    assert run(["keys", "init", "--fleet", FLEET, "--dir", str(folder / "keys")]) == 0
    return Site(folder)


def blob(seed: int, size: int) -> bytes:
    """Return the same bytes for the same seed."""
    return random.Random(seed).randbytes(size)


def variant(
    name: str,
    content: bytes,
    *,
    profiles: tuple[str, ...] = ("raspberry-pi-4",),
    kind: ModelFormat = ModelFormat.TFLITE,
    drop: float | None = 0.0,
    pareto: tuple[str, ...] = (),
) -> Variant:
    """Return a variant whose model file holds ``content``."""
    return Variant(
        name=name,
        recipe=Recipe(name=name, format=kind, steps=(Step(pass_name="quantize", parameters={"bits": "8"}),)),
        folder=name,
        file=f"{name}.{kind.value}",
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        compressed_bytes=len(content),
        quality=Quality(
            samples=100,
            accuracy=None if drop is None else 0.97 - drop,
            accuracy_drop=drop,
            agreement=0.99,
            mean_abs_error=0.01,
        ),
        host_latency_ns=1000,
        profiles=profiles,
        pareto=pareto,
        golden_min_agreement=0.9,
        golden_max_mean_abs_error=0.1,
        provenance={"tool": "none"},
    )


def write_variants(folder: Path, contents: list[tuple[Variant, bytes]], *, model: str = "digits") -> Path:
    """Return a folder as ``edgepick compress`` leaves it."""
    for made, content in contents:
        (folder / made.folder).mkdir(parents=True, exist_ok=True)
        (folder / made.folder / made.file).write_bytes(content)
    (folder / "golden.npz").write_bytes(blob(99, 5000))
    profiles = tuple(sorted({p for made, _ in contents for p in made.profiles}))
    found = VariantSet(
        model=model,
        source_sha256="0" * 64,
        golden="golden.npz",
        float_accuracy=0.97,
        max_accuracy_drop=0.01,
        profiles=profiles,
        variants=tuple(made for made, _ in contents),
    )
    (folder / "variants.json").write_bytes(encode_document(found, indent=2))
    return folder


def two_variants(folder: Path) -> Path:
    """Return a folder with a large float variant and a small int8 one, of three and two chunks."""
    large, small = blob(1, 150_000), blob(2, 70_000)
    both = ("raspberry-pi-4", "raspberry-pi-5")
    return write_variants(
        folder,
        [
            (variant("float32", large, profiles=both, pareto=both), large),
            (variant("static_wi8_ai8", small, profiles=("raspberry-pi-4",), drop=0.005, pareto=both), small),
        ],
    )


def edit_json(path: Path, change) -> None:
    """Apply ``change`` to the JSON document in ``path``."""
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def missing_at(url: str, site: Site, manifest: str) -> set[str]:
    """Return what a device would miss of a release: the manifest, its indexes, its chunks."""
    with app.broker_of(site.settings(broker=url)) as connection:
        place = topics.manifest(FLEET, manifest)
        signed = connection.retained([place])
        if place not in signed:
            return {place}
        published = parse_manifest(signed[place].partition(b"\n")[2]).published
        indexes = [topics.chunk(FLEET, digest) for form in published for digest in form.index]
        found = connection.retained(indexes)
        listed = b"".join(found.values()).hex()
        chunks = [topics.chunk(FLEET, listed[at : at + 64]) for at in range(0, len(listed), 64)]
        return {*indexes, *chunks} - {*found, *connection.retained(chunks)}
