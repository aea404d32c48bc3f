"""Random lives of a device: whatever happens in whatever order, it keeps its promises and comes right in the end."""

import errno

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edgepick_agent.core.control import Command
from edgepick_agent.core.places import model_socket, runner_socket
from edgepick_agent.core.runner_spec import RunnerMode
from edgepick_agent.core.state import decode_state
from edgepick_agent.errors import StorageError, StorageFullError
from edgepick_agent.loop.bundles import Bundles
from edgepick_wire.messages import MeasureRequest, Phase
from edgepick_wire.shadow import ShadowRequest
from fakes.agent_bench import Bench
from fakes.host_stand_in import STRANGER, bundle
from fakes.runner_launcher import Script
from fakes.storage import FaultyStorage

GOOD = [bundle(str(number), model_size=1500) for number in range(4)]
NEVER = 1 << 60
FORGED = bundle("forged", model_size=1500, key=STRANGER)
ALL = [*GOOD, FORGED]
MEASURES = st.sampled_from(["passes", "passes", "fails", "cannot", "crashes", "hangs", "swells", "slow"])
SHADOWS = st.sampled_from(["serves", "ends", "crashes", "hangs", "swells", "slow"])
SERVES = st.sampled_from(["serves", "serves", "crashes", "hangs", "swells", "slow"])


class Device(RuleBasedStateMachine):
    """One device among hosts, technicians, power cuts and bad models."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench()
        self.start()
        self.bench.turn()
        self.rollout = 0
        self.was_confirmed = False

    def start(self) -> None:
        """Start an agent on a disk that can break."""
        self.disk = FaultyStorage(self.bench.storage, NEVER, StorageError, lasting=True)
        self.bench.storage = self.disk
        self.bench.boot()

    # --- what can happen ---

    @rule(number=st.integers(0, 4), without=st.sampled_from([0, 0, 0, 2]))
    def a_variant_is_published(self, number, without):
        self.bench.host.publish(ALL[number], without=without)

    @rule(number=st.integers(0, 4), fresh=st.booleans())
    def the_host_wants(self, number, fresh):
        self.rollout += fresh
        self.bench.host.want(ALL[number], rollout=f"r{self.rollout}")

    @rule(number=st.integers(0, 4), name=st.integers(0, 5))
    def the_host_wants_a_measurement(self, number, name):
        self.bench.host.want(None, measure=(MeasureRequest(id=f"m{name}", manifest=ALL[number].digest),))

    @rule(number=st.integers(0, 4), name=st.integers(0, 5))
    def the_host_wants_a_shadow(self, number, name):
        self.bench.host.want(None, shadow=ShadowRequest(id=f"s{name}", manifest=ALL[number].digest))

    @rule(number=st.integers(0, 3), measure=MEASURES, serve=SERVES, shadow=SHADOWS)
    def a_variant_behaves(self, number, measure, serve, shadow="ends"):
        self.bench.launcher.scripts[str(number)] = Script(measure=measure, serve=serve, shadow=shadow)
        for process in self.bench.launcher.started:
            if process.spec.version == str(number):
                process.script = self.bench.launcher.scripts[str(number)]

    @rule(seconds=st.sampled_from([0.5, 2.0, 10.0, 100.0]))
    def time_passes(self, seconds):
        self.bench.run(seconds, step=min(seconds, 1.0))

    @rule()
    def the_power_is_cut(self):
        self.bench.cut_power()
        self.start()

    @rule(error=st.sampled_from([None, StorageError, StorageFullError]))
    def the_disk_takes_nothing(self, error):
        self.disk.fail_at = NEVER if error is None else self.disk.count + 1
        self.disk.error = error or StorageError

    @rule(error=st.sampled_from([None, StorageError, StorageFullError]))
    def no_name_can_be_written(self, error):
        self.bench.names_fail = error

    @rule(number=st.sampled_from([None, errno.EMFILE, errno.ENOSPC]))
    def no_process_can_be_started(self, number):
        self.bench.launcher.lacks = number

    @precondition(lambda self: self.bench.transport.up)
    @rule()
    def the_connection_is_lost(self):
        self.bench.transport.disconnect()

    @precondition(lambda self: not self.bench.transport.up)
    @rule()
    def the_connection_is_back(self):
        self.bench.transport.connect()

    @rule(position=st.integers(0, 1000))
    def an_old_message_is_replayed(self, position):
        topic, payload = self.bench.broker.published[position % max(1, len(self.bench.broker.published))]
        if "/d/" not in topic or topic.endswith("/desired"):
            self.bench.broker.publish(topic, payload, retain=False)

    @rule()
    def a_technician_goes_back(self):
        self.bench.ask(Command.ROLLBACK, model="digits")

    @rule(number=st.integers(0, 4))
    def a_technician_plugs_in_a_stick(self, number):
        self.bench.reader.files_at["/stick"] = ALL[number]
        self.bench.ask_and_forget(Command.INSTALL, path="/stick")

    # --- what holds always ---

    @invariant()
    def what_is_installed_is_whole_and_genuine(self):
        self.bench.turn()
        raw = self.bench.storage.read("state.json")
        assert raw is not None
        state = decode_state(raw)
        assert state == self.bench.loop.agent.durable
        slots = [slot for record in state.models.values() for slot in (record.a, record.b) if slot is not None]
        assert {slot.manifest for slot in slots} <= {made.digest for made in GOOD}
        assert Bundles(self.bench.storage, self.bench.reader).check(tuple(s.manifest for s in slots)).broken == {}

    @invariant()
    def what_was_confirmed_once_is_never_without_a_successor(self):
        record = self.bench.loop.agent.durable.model("digits")
        self.was_confirmed = self.was_confirmed or (record.active is not None and record.confirmed)
        assert record.active is not None or not self.was_confirmed

    @invariant()
    def no_more_runs_than_is_needed(self):
        alive = self.bench.launcher.alive()
        assert len(alive) == len(set(alive)) <= 3

    @invariant()
    def a_shadow_is_alone_and_gives_way(self):
        shadows = self.bench.launcher.alive(RunnerMode.SHADOW)
        assert len(shadows) <= 1
        assert not (shadows and self.bench.launcher.alive(RunnerMode.MEASURE))

    # --- how it ends ---

    def teardown(self):
        bench = self.bench
        self.the_disk_takes_nothing(None)
        self.no_name_can_be_written(None)
        self.no_process_can_be_started(None)
        for number in range(4):
            self.a_variant_behaves(number, "passes", "serves")
        for made in GOOD:
            bench.host.publish(made)
        if not bench.transport.up:
            bench.transport.connect()
        bench.run(60)  # until what was put off has been taken up, a technician's stick among it
        bench.host.want(GOOD[3], rollout="the last one")
        bench.run(400, step=1.0)

        assert bench.model().active == GOOD[3].digest
        assert bench.model().phase is Phase.CONFIRMED
        assert bench.launcher.alive() == ["3"]
        assert bench.launcher.alive(RunnerMode.SHADOW) == []
        assert bench.sockets == {model_socket("digits"): runner_socket(GOOD[3].digest)}


TestDevice = Device.TestCase
TestDevice.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestDevice.__doc__ = "Every life keeps the invariants and ends with what is wanted running."
