"""Which adapters this host uses; the only place that picks them.

Adapters are named in literal tables as ``"module:name"`` and imported on use, so that a command
pays only for what it needs, and a missing extra hurts only the command that needs it.
"""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from edgepick_host.core.settings import HostSettings
from edgepick_host.core.trust import document_signer
from edgepick_host.errors import ConfigError, MissingExtraError
from edgepick_host.ports import Broker, Clock, HostStore, SignDocument, Signer
from edgepick_wire.envelope import DocumentType, VerifySignature

BROKER = "edgepick_host.adapters.mqtt:MqttBroker"
STORE = "edgepick_host.adapters.store_sql:SqlStore"
CLOCK = "edgepick_host.adapters.clock:SystemClock"
KEY_FILES = "edgepick_host.adapters.key_files"
VERIFY = "edgepick_host.core.keypair:verify_signature"

SIGNERS = {
    "file": "edgepick_host.adapters.signer_file:open_signer",
    "env": "edgepick_host.adapters.signer_env:open_signer",
    "exec": "edgepick_host.adapters.signer_exec:open_signer",
}
"""Scheme of a signer's address -> ``(place) -> Signer``."""

PASSES = {
    "identity": "edgepick_host.compress.passes.identity:build",
    "tflite_dynamic_int8": "edgepick_host.compress.passes.tflite_dynamic_int8:build",
    "tflite_float16": "edgepick_host.compress.passes.tflite_float16:build",
    "tflite_cleanup": "edgepick_host.compress.passes.tflite_cleanup:build",
    "tflite_cluster": "edgepick_host.compress.passes.tflite_cluster:build",
    "tflite_equalize": "edgepick_host.compress.passes.tflite_equalize:build",
    "tflite_low_rank": "edgepick_host.compress.passes.tflite_low_rank:build",
    "tflite_prune": "edgepick_host.compress.passes.tflite_prune:build",
    "tflite_static_int8": "edgepick_host.compress.passes.tflite_static_int8:build",
    "tflite_weight_only": "edgepick_host.compress.passes.tflite_weight_only:build",
    "onnx_dynamic_int8": "edgepick_host.compress.passes.onnx_dynamic_int8:build",
    "onnx_float16": "edgepick_host.compress.passes.onnx_float16:build",
    "onnx_cleanup": "edgepick_host.compress.passes.onnx_cleanup:build",
    "onnx_cluster": "edgepick_host.compress.passes.onnx_cluster:build",
    "onnx_equalize": "edgepick_host.compress.passes.onnx_equalize:build",
    "onnx_weight_only": "edgepick_host.compress.passes.onnx_weight_only:build",
    "onnx_low_rank": "edgepick_host.compress.passes.onnx_low_rank:build",
    "onnx_prune": "edgepick_host.compress.passes.onnx_prune:build",
    "onnx_static_qdq": "edgepick_host.compress.passes.onnx_static_qdq:build",
}
"""Name of a pass in a recipe -> ``() -> Pass``."""

TRAINING_PASSES: dict[str, str] = {
    "train_cluster": "edgepick_host.compress.passes.train_cluster:build",
    "train_distill": "edgepick_host.compress.passes.train_distill:build",
    "train_embedding": "edgepick_host.compress.passes.train_embedding:build",
    "train_low_rank": "edgepick_host.compress.passes.train_low_rank:build",
    "train_pca": "edgepick_host.compress.passes.train_pca:build",
    "train_prune": "edgepick_host.compress.passes.train_prune:build",
    "train_prune_channels": "edgepick_host.compress.passes.train_prune_channels:build",
    "train_qat": "edgepick_host.compress.passes.train_qat:build",
}
"""Name of a training pass in a recipe -> ``() -> TrainingPass``."""

OURS = ("edgepick_host", "edgepick_wire", "edgepick_profiles", "edgepick_agent")


def load(reference: str, *, extra: str = "host") -> Any:
    """Return the object that ``"module:name"`` refers to, imported now.

    Raises:
        MissingExtraError: The import needs a package of ``extra`` that is not installed.
    """
    module, _, name = reference.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in OURS:
            raise
        raise MissingExtraError(
            f"this needs the package {error.name!r}, which is not installed",
            hint=f"pip install 'edgepick[{extra}]'",
        ) from error


def clock() -> Clock:
    """Return the system's clock."""
    return cast("Clock", load(CLOCK)())


def open_store(settings: HostSettings) -> HostStore:
    """Return the database of these settings, made if it is new.

    Raises:
        ConfigError: Not a database URL, or its driver is missing.
        StateError: It cannot be opened.
    """
    place = settings.database
    return cast("HostStore", load(STORE)(place if "://" in place else f"sqlite:///{place}"))


@contextmanager
def store_to_read(settings: HostSettings) -> Iterator[HostStore]:
    """Provide the database of these settings to look into; where there is none, an empty one that leaves no file."""
    place = settings.database
    missing = "://" not in place and not Path(place).exists()
    with store_of(replace(settings, database="sqlite://") if missing else settings) as store:
        yield store


@contextmanager
def store_of(settings: HostSettings) -> Iterator[HostStore]:
    """Provide the database of these settings, closed at the end."""
    store = open_store(settings)
    try:
        yield store
    finally:
        store.close()


def connect_broker(
    settings: HostSettings, *, birth: tuple[str, bytes] | None = None, will: tuple[str, bytes] | None = None
) -> Broker:
    """Return the broker of these settings, connected.

    Args:
        settings: The host's settings.
        birth: Retained ``(topic, payload)`` to publish at every connection.
        will: Retained ``(topic, payload)`` that the broker publishes when the connection is lost.

    Raises:
        UnreachableError: No answer.
        BrokerRefusedError: Wrong password, or not allowed.
    """
    broker = cast("Broker", load(BROKER)(settings.broker, birth=birth, will=will))
    broker.connect()
    return broker


@contextmanager
def broker_of(settings: HostSettings) -> Iterator[Broker]:
    """Provide the broker of these settings, connected; disconnected at the end."""
    broker = connect_broker(settings)
    try:
        yield broker
    finally:
        broker.close()


def signer(address: str) -> Signer:
    """Return the signer at ``scheme:place``, one scheme of ``SIGNERS``.

    Raises:
        ConfigError: An unknown scheme, an environment variable that is not set, or no such command.
        InputFileError: No key there.
        SignerError: The command did not give its public key.
    """
    scheme, colon, place = address.partition(":")
    if not colon or not place or scheme not in SIGNERS:
        raise ConfigError(
            f"signer {address!r}: expected one of {', '.join(f'{s}:…' for s in SIGNERS)}",
            hint="For example file:keys/release.pem, env:EDGEPICK_CAMPAIGN_KEY or exec:hsm-sign --slot 2.",
        )
    return cast("Signer", load(SIGNERS[scheme])(place))


def keys_of(settings: HostSettings, role: str) -> tuple[Signer, ...]:
    """Return every key with which this host signs for the role "release" or "campaign".

    Raises:
        ConfigError, InputFileError, SignerError: As :func:`signer`.
    """
    return tuple(signer(address) for address in settings.signers.of(role))


def sign_document(settings: HostSettings) -> SignDocument:
    """Return a function that signs manifests with the release key and desired state with the campaign key.

    A key is opened when it is first needed: a host that only signs desired state needs no release key.
    """
    return document_signer(
        {
            DocumentType.MANIFEST: lambda: keys_of(settings, "release"),
            DocumentType.DESIRED: lambda: keys_of(settings, "campaign"),
        }
    )


def verify_signature() -> VerifySignature:
    """Return the function that checks Ed25519 signatures."""
    return cast("VerifySignature", load(VERIFY))
