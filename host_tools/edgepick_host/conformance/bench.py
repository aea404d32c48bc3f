"""One case's stage: a fleet of its own, its keys, a simulated host, the agent, and words for what is to happen."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from edgepick_host.conformance.agent_process import AgentUnderTest
from edgepick_host.conformance.documents import MODEL, Keys, Variant, make_variant, sign
from edgepick_host.conformance.interface import AgentAnswer, BrokerAddress, Context, InitAnswer, ModelAnswer
from edgepick_host.conformance.simulated_host import SimulatedHost
from edgepick_host.conformance.verdict import CaseFailedError
from edgepick_host.core.keypair import KeySigner
from edgepick_wire import codec, topics
from edgepick_wire.envelope import DocumentType
from edgepick_wire.messages import (
    Assignment,
    Desired,
    Incident,
    IncidentCode,
    ModelState,
    Phase,
    RefusalCode,
    Report,
    Reported,
    TargetKind,
)
from edgepick_wire.topics import DeviceTopic
from edgepick_wire.trust import RootDocument

T = TypeVar("T")
DEVICE = "dut-1"
PROFILE = "generic-linux"
ROOT_FILE = "root.signed"


@dataclass(slots=True, kw_only=True)
class Bench:
    """Everything that a case may use.

    Attributes:
        fleet: Another one in each case, so that cases do not meet in the broker.
        seconds: Longest wait for any one thing.
        capabilities: What the agent declares.
        keys: The fleet's keys; a case that rotates them puts the new ones here.
        sequence: The highest of the desired states that the host has made.
    """

    fleet: str
    broker: BrokerAddress
    host: SimulatedHost
    agent: AgentUnderTest
    seconds: float
    capabilities: tuple[str, ...] = ()
    keys: Keys = field(default_factory=Keys)
    sequence: int = 0

    # --- the agent ---

    def prepare(self) -> InitAnswer:
        """Have the agent prepared, with the first root document in a file; return what it says about itself."""
        file = self.agent.folder / ROOT_FILE
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(self.root_document(self.keys.document(self.fleet)))
        context = Context(
            fleet=self.fleet, device=DEVICE, profile=PROFILE, root_document=str(file.resolve()), broker=self.broker
        )
        answer = self.agent.init(context)
        self.capabilities = answer.capabilities
        return answer

    def start(self) -> None:
        """Return once the agent runs and says so at the broker."""
        before = len(self.host.heard(Reported))
        self.agent.start()
        self.until(lambda: len(self.host.heard(Reported)) > before, "the started agent publishes its reported state")

    def restart(self, between: Callable[[], object] = lambda: None) -> None:
        """End the agent in good order, do something while it is away, and start it again."""
        self.agent.stop()
        between()
        self.start()

    # --- waiting and looking ---

    def until(self, look: Callable[[], T | None], what: str, seconds: float | None = None) -> T:
        """Return the first true value of ``look``.

        Raises:
            CaseFailedError: It did not come in time, or the agent ended.
        """
        return self.host.wait(look, what, seconds or self.seconds, self.agent.check)

    def reported(self) -> Reported | None:
        """Return the latest reported state."""
        return next(reversed(self.host.heard(Reported)), None)

    def model(self) -> ModelState | None:
        """Return where the model stands, by the latest reported state."""
        found = self.reported()
        return next((m for m in found.models if m.model == MODEL), None) if found else None

    def incidents(self, code: IncidentCode) -> list[Incident]:
        """Return the incidents of a kind, each once."""
        found = {r.id: r.incident for r in self.host.heard(Report) if r.incident and r.incident.code is code}
        return list(found.values())

    def status(self) -> AgentAnswer:
        """Return what the agent's own command says."""
        return self.until(self.agent.status, "`status` answers")

    def active(self) -> str | None:
        """Return the digest of what serves, by the agent's own command."""
        models: Sequence[ModelAnswer] = self.status().models
        return next((m.active for m in models if m.model == MODEL), None)

    def active_without_host(self, variant: Variant) -> str | None:
        """Return the variant's digest once it serves, asked of the agent's command alone."""
        found = self.agent.status()
        active = {m.active for m in found.models if m.phase is Phase.CONFIRMED} if found else set()
        return variant.digest if variant.digest in active else None

    # --- the host's part ---

    def variant(self, **changes: Any) -> Variant:
        """Return a variant that this agent can run, unlike any other."""
        return make_variant(self.fleet, PROFILE, self.capabilities, **changes)

    def publish_chunks(self, variant: Variant, without: Sequence[str] = ()) -> None:
        """Retain the variant's chunks but some."""
        for digest, data in variant.chunks.items():
            if digest not in without:
                self.put_chunk(digest, data)

    def put_chunk(self, digest: str, data: bytes) -> None:
        """Retain bytes under a chunk's name, right or wrong."""
        self.host.put(topics.chunk(self.fleet, digest), data)

    def publish_manifest(self, variant: Variant, *, key: KeySigner | None = None) -> None:
        """Retain the variant's signed manifest."""
        self.put_manifest(variant.digest, self.signed_manifest(variant, key=key))

    def signed_manifest(self, variant: Variant, *, key: KeySigner | None = None) -> bytes:
        """Return the variant's manifest, signed by the release key or by another one."""
        return sign(DocumentType.MANIFEST, variant.payload, key or self.keys.release)

    def put_manifest(self, digest: str, raw: bytes) -> None:
        """Retain bytes under a manifest's name, right or wrong."""
        self.host.put(topics.manifest(self.fleet, digest), raw)

    def publish(self, variant: Variant) -> Variant:
        """Retain all of a variant, and return it."""
        self.publish_chunks(variant)
        self.publish_manifest(variant)
        return variant

    def desired(self, active: str | None = None, **changes: Any) -> Desired:
        """Return a desired state for the device with the next sequence; without a digest it leaves everything alone."""
        models = (Assignment(model=MODEL, active=active),) if active else ()
        sequence = changes.get("sequence", self.sequence + 1)
        self.sequence = max(self.sequence, sequence)
        fields = {"fleet": self.fleet, "target_kind": TargetKind.DEVICE, "target": DEVICE, "issued_at": 1.0}
        return Desired(**{**fields, "sequence": sequence, "models": models, **changes})

    def signed_desired(self, document: Desired, *, key: KeySigner | None = None) -> bytes:
        """Return a desired state, signed by the campaign key or by another one."""
        return sign(DocumentType.DESIRED, codec.encode(document), key or self.keys.campaign)

    def tell(self, raw: bytes, kind: TargetKind = TargetKind.DEVICE) -> None:
        """Retain bytes as the desired state of the device or of its profile."""
        own = topics.device(self.fleet, DEVICE, DeviceTopic.DESIRED)
        self.host.put(own if kind is TargetKind.DEVICE else topics.profile_desired(self.fleet, PROFILE), raw)

    def want(self, variant: Variant | None = None, **changes: Any) -> int:
        """Tell the device to run a variant, in every way right; return the sequence."""
        document = self.desired(variant.digest if variant else None, **changes)
        self.tell(self.signed_desired(document))
        return document.sequence

    def root_document(self, document: RootDocument, *keys: KeySigner) -> bytes:
        """Return a root document signed by these keys, or by the fleet's root key."""
        return sign(DocumentType.ROOT, codec.encode(document), *(keys or (self.keys.root,)))

    def publish_root(self, raw: bytes, version: int, *, newest: bool = True) -> None:
        """Retain a root document as this version, and as the newest."""
        self.host.put(topics.root_version(self.fleet, version), raw)
        if newest:
            self.host.put(topics.root(self.fleet), raw)

    def rotate(self, version: int = 2, **new: KeySigner) -> Keys:
        """Replace some keys, publish the root document signed as it must be, and return the keys until now."""
        before, self.keys = self.keys, replace(self.keys, **new)
        signers = {key.public_key: key for key in (before.root, self.keys.root)}
        raw = self.root_document(self.keys.document(self.fleet, version), *signers.values())
        self.publish_root(raw, version)
        return before

    # --- what is to happen ---

    def obeys(self) -> None:
        """Return once the agent follows a new order that is right.

        Raises:
            CaseFailedError: It does not: it is stuck, or follows somebody else.
        """
        sequence = self.want()
        self.follows(sequence)

    def follows(self, sequence: int) -> None:
        """Return once the agent says that it follows this sequence."""
        self.until(lambda: (r := self.reported()) and r.sequence == sequence, f"the agent follows sequence {sequence}")

    def confirms(self, variant: Variant, *forbidden: str) -> None:
        """Return once the variant serves and is confirmed, by the broker and by the agent's command.

        Raises:
            CaseFailedError: It does not, or one of the forbidden digests was active at any time.
        """
        self.until(lambda: self._confirmed(variant.digest), "the wanted variant is confirmed")
        found = self.active()
        if found != variant.digest:
            raise CaseFailedError(
                f"reported {variant.digest[:12]} as active, but `status` says {(found or 'nothing')[:12]}"
            )
        self.never_ran(*forbidden)

    def _confirmed(self, digest: str) -> bool:
        model = self.model()
        return model is not None and (model.phase, model.active) == (Phase.CONFIRMED, digest)

    def installs(self, **changes: Any) -> Variant:
        """Return a variant that the agent was properly given and has confirmed."""
        variant = self.publish(self.variant(**changes))
        self.want(variant)
        self.confirms(variant)
        return variant

    def never_ran(self, *digests: str) -> None:
        """Do nothing if none of these was ever active.

        Raises:
            CaseFailedError: One was.
        """
        told = {m.active for r in self.host.heard(Reported) for m in r.models}
        ran = [digest for digest in digests if digest in told]
        if ran:
            raise CaseFailedError(f"the agent ran {ran[0][:12]}, which it must never run")

    def refuses_order(self, evil: Variant, sequence: int | None = None, *, count: int = 1) -> Incident:
        """Return the incident by which the agent says no to an order that it must not follow.

        Args:
            evil: What the order would have it run.
            sequence: The order's sequence; a device that says it follows that has failed.
            count: How many refusals there must be by now.

        Raises:
            CaseFailedError: It followed the order, or kept silent.
        """

        def look() -> Incident | None:
            self._not_followed(evil, sequence)
            found = self.incidents(IncidentCode.DESIRED_REFUSED)
            return found[-1] if len(found) >= count else None

        return self.until(look, "the agent reports `desired-refused`")

    def _not_followed(self, evil: Variant, sequence: int | None) -> None:
        if any(state.sequence == sequence for state in self.host.heard(Reported)):
            raise CaseFailedError(f"the agent follows sequence {sequence}, which it must refuse")
        self.not_wanted(evil)

    def not_wanted(self, evil: Variant) -> None:
        """Do nothing if the agent never wanted this variant.

        Raises:
            CaseFailedError: It did: it followed an order that it must refuse.
        """
        for state in self.host.heard(Reported):
            if any(evil.digest in {m.active, m.wanted} for m in state.models):
                raise CaseFailedError(f"the agent follows the order to run {evil.digest[:12]}, which it must refuse")

    def refuses_variant(self, variant: Variant, *codes: RefusalCode) -> ModelState:
        """Return the model's state once the agent says no to a variant that it must not run.

        Raises:
            CaseFailedError: It ran it, kept silent, or named another reason.
        """

        def look() -> ModelState | None:
            self.never_ran(variant.digest)
            model = self.model()
            done = model is not None and model.wanted == variant.digest and model.refusal is not None
            return model if done else None

        found = self.until(look, f"the agent refuses {variant.digest[:12]}")
        assert found.refusal is not None
        if found.refusal.code not in codes:
            allowed = " or ".join(f"`{code.value}`" for code in codes)
            raise CaseFailedError(f"refused as `{found.refusal.code.value}`, expected {allowed}")
        return found


def make_bench(command: tuple[str, ...], folder: Path, broker: BrokerAddress, fleet: str, seconds: float) -> Bench:
    """Return the stage of one case; nothing is running yet."""
    return Bench(
        fleet=fleet,
        broker=broker,
        host=SimulatedHost(broker, fleet, DEVICE),
        agent=AgentUnderTest(command=command, folder=folder),
        seconds=seconds,
    )
