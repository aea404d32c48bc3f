"""A small agent without a runtime, behind the conformance kit's three commands; each flaw is one that people make.

python toy_agent.py [--flaw FLAW]... init DIR CONTEXT.json | run DIR | status DIR
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from edgepick_wire import codec, envelope, topics
from edgepick_wire.envelope import DocumentType
from edgepick_wire.errors import WireError
from edgepick_wire.ids import digest_of
from edgepick_wire.manifest import KNOWN_REQUIREMENTS, Manifest, manifest_digest, parse_manifest, split_index
from edgepick_wire.messages import (
    Birth,
    Desired,
    Incident,
    IncidentCode,
    ModelState,
    Phase,
    Presence,
    Refusal,
    RefusalCode,
    Report,
    Reported,
    ReportKind,
)
from edgepick_wire.topics import DeviceTopic
from edgepick_wire.trust import first_root
from wire.wire_keys import check

IGNORES_SIGNATURES = "ignores-signatures"
ACCEPTS_OLDER = "accepts-older"
TRUSTS_CHUNK_TOPICS = "trusts-chunk-topics"
FORGETS = "forgets"
KEEPS_SILENT = "keeps-silent"
ENDS_AT_GARBAGE = "ends-at-garbage"
MODEL = "conformance"


class Toy:
    """Follows one device's orders for one model; everything that it must remember is in ``state.json``."""

    def __init__(self, folder: Path, flaws: set[str]) -> None:
        self.folder, self.flaws = folder, flaws
        self.given = json.loads((folder / "context.json").read_text())
        self.fleet, self.device = self.given["fleet"], self.given["device"]
        self.root = first_root(envelope.unpack(Path(self.given["root_document"]).read_bytes()), check)
        kept = folder / "state.json"
        state = json.loads(kept.read_text()) if kept.exists() else {}
        self.session = state.get("session", 0) + 1
        self.sequence, self.seen = (0, "") if FORGETS in flaws else state.get("seen", (0, ""))
        self.active, self.epoch = state.get("active"), state.get("epoch", 0)
        self.wanted: str | None = None
        self.refusal: Refusal | None = None
        self.manifest: Manifest | None = None
        self.chunks: dict[str, bytes] = {}
        self.needed: set[str] = set()
        self.said: set[str] = set()
        self.reports = 0
        self.client = paho.Client(CallbackAPIVersion.VERSION2)
        self.keep()

    def keep(self) -> None:
        """Write what must survive, and what ``status`` shows."""
        state = {
            "session": self.session,
            "seen": (self.sequence, self.seen),
            "active": self.active,
            "epoch": self.epoch,
            "pid": os.getpid(),
            "model": codec.plain(self.model()),
        }
        made = self.folder / "state.new"
        made.write_text(json.dumps(state))
        made.replace(self.folder / "state.json")

    # --- saying ---

    def topic(self, kind: DeviceTopic) -> str:
        return topics.device(self.fleet, self.device, kind)

    def say(self, kind: DeviceTopic, message: object) -> None:
        self.client.publish(self.topic(kind), codec.encode(message), qos=1, retain=kind is not DeviceTopic.REPORT)

    def model(self) -> ModelState:
        phase = Phase.CONFIRMED if self.active else Phase.EMPTY
        if self.wanted not in {None, self.active}:
            phase = Phase.REFUSED if self.refusal else Phase.FETCHING
        return ModelState(model=MODEL, phase=phase, active=self.active, wanted=self.wanted, refusal=self.refusal)

    def announce(self) -> None:
        self.keep()
        models = (self.model(),)
        state = Reported(
            device=self.device, session=self.session, sequence=self.sequence, security_epoch=self.epoch, models=models
        )
        self.say(DeviceTopic.REPORTED, state)

    def report(self, code: IncidentCode, detail: str) -> None:
        if KEEPS_SILENT in self.flaws:
            return
        self.reports += 1
        report = Report(
            id=f"r{self.session}-{self.reports}",
            device=self.device,
            session=self.session,
            recorded_at=0.0,
            kind=ReportKind.INCIDENT,
            incident=Incident(code=code, detail=detail),
        )
        self.say(DeviceTopic.REPORT, report)

    # --- hearing ---

    def on_connect(self, *_: object) -> None:
        self.client.subscribe(self.topic(DeviceTopic.DESIRED), qos=1)
        birth = Birth(
            device=self.device, session=self.session, profile=self.given["profile"], agent_version="toy", machine="",
            system="", python="", runtimes=(), memory_bytes=0, disk_free_bytes=0,
        )  # fmt: skip
        self.say(DeviceTopic.BIRTH, birth)
        self.say(DeviceTopic.PRESENCE, Presence(session=self.session, online=True))
        self.announce()

    def on_message(self, _client: object, _data: object, message: paho.MQTTMessage) -> None:
        topic, raw = message.topic, bytes(message.payload)
        if topic == self.topic(DeviceTopic.DESIRED):
            self.on_desired(raw)
        elif "/m/" in topic and topics.digest_in(topic) == self.wanted and self.manifest is None:
            self.on_manifest(raw)
        elif "/c/" in topic and topics.digest_in(topic) in self.needed:
            self.on_chunk(topics.digest_in(topic), raw)

    def verified(self, raw: bytes, kind: DocumentType) -> bytes:
        document = envelope.unpack(raw)
        if IGNORES_SIGNATURES in self.flaws:
            return document.payload
        role = self.root.campaign if kind is DocumentType.DESIRED else self.root.release
        return envelope.verify(document, kind, role, check)

    def on_desired(self, raw: bytes) -> None:
        if not raw or digest_of(raw) in self.said:
            return
        try:
            payload = self.verified(raw, DocumentType.DESIRED)
            self.follow(codec.decode(Desired, payload), digest_of(payload))
        except WireError as error:
            if ENDS_AT_GARBAGE in self.flaws:
                os._exit(70)
            self.said.add(digest_of(raw))
            self.report(IncidentCode.DESIRED_REFUSED, str(error))

    def follow(self, desired: Desired, digest: str) -> None:
        older = desired.sequence < self.sequence or (desired.sequence == self.sequence and digest != self.seen)
        if older and ACCEPTS_OLDER not in self.flaws:
            raise WireError(f"sequence {desired.sequence} after {self.sequence}")
        if (desired.fleet, desired.target) != (self.fleet, self.device):
            raise WireError("for somebody else")
        self.sequence, self.seen = desired.sequence, digest
        wanted = next((m.active for m in desired.models if m.model == MODEL), None)
        self.wanted, self.manifest, self.refusal, self.chunks = wanted, None, None, {}
        if wanted and wanted != self.active:
            self.client.subscribe(topics.manifest(self.fleet, wanted), qos=1)
        self.announce()

    def on_manifest(self, raw: bytes) -> None:
        code = RefusalCode.BAD_SIGNATURE
        try:
            payload = self.verified(raw, DocumentType.MANIFEST)
            code = RefusalCode.MALFORMED
            content = parse_manifest(payload)
        except WireError as error:
            self.refuse(code, str(error))
            return
        reasons = {
            RefusalCode.DIGEST_MISMATCH: manifest_digest(payload) != self.wanted,
            RefusalCode.UNKNOWN_REQUIREMENT: bool(set(content.requires) - KNOWN_REQUIREMENTS) or content.schema > 1,
            RefusalCode.WRONG_FLEET: content.fleet != self.fleet,
            RefusalCode.WRONG_PROFILE: self.given["profile"] not in content.profiles,
            RefusalCode.LOWER_EPOCH: content.security_epoch < self.epoch,
        }
        found = next((reason for reason, holds in reasons.items() if holds), None)
        if found:
            self.refuse(found, found.value)
            return
        self.manifest = content
        self.fetch({digest for file in content.files for digest in file.index})

    def refuse(self, code: RefusalCode, detail: str) -> None:
        self.refusal = Refusal(code=code, detail=detail, hint="")
        self.announce()

    def fetch(self, digests: set[str]) -> None:
        self.needed = digests - set(self.chunks)
        for digest in sorted(self.needed):
            self.client.subscribe(topics.chunk(self.fleet, digest), qos=0)

    def on_chunk(self, digest: str, data: bytes) -> None:
        if digest_of(data) != digest and TRUSTS_CHUNK_TOPICS not in self.flaws:
            self.report(IncidentCode.CHUNK_CORRUPT, digest[:12])
            return
        self.chunks[digest] = data
        self.needed.discard(digest)
        if self.needed or self.manifest is None:
            return
        index = {f.name: b"".join(self.chunks[d] for d in f.index) for f in self.manifest.files}
        content = {digest for part in index.values() for digest in split_index(part)}
        if content <= set(self.chunks):
            self.active, self.epoch = self.wanted, max(self.epoch, self.manifest.security_epoch)
            self.announce()
        else:
            self.fetch(content)

    def run(self) -> None:
        self.client.on_connect, self.client.on_message = self.on_connect, self.on_message
        self.client.will_set(
            self.topic(DeviceTopic.PRESENCE), codec.encode(Presence(session=self.session, online=False)), 1, retain=True
        )
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        self.client.connect(self.given["broker"]["host"], self.given["broker"]["port"])
        self.client.loop_forever()


def status(folder: Path) -> int:
    kept = folder / "state.json"
    if not kept.exists():
        return 3
    state: dict[str, Any] = json.loads(kept.read_text())
    model = state["model"]
    refusal = model["refusal"]["code"] if model["refusal"] else None
    shown = {**{key: model[key] for key in ("model", "phase", "active")}, "refusal": refusal}
    print(json.dumps({"sequence": state["seen"][0], "security_epoch": state["epoch"], "models": [shown]}))  # noqa: T201
    return 0


def main(words: list[str]) -> int:
    flaws = set()
    while words[0] == "--flaw":
        flaws.add(words[1])
        words = words[2:]
    folder = Path(words[1])
    if words[0] == "init":
        (folder / "context.json").write_bytes(Path(words[2]).read_bytes())
        print(json.dumps({"agent": "toy 1", "capabilities": []}))  # noqa: T201
        return 0
    if words[0] == "status":
        return status(folder)
    Toy(folder, flaws).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
