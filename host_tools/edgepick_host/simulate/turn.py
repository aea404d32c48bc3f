"""One step of a simulated device in the making: its state so far, and what it does."""

from dataclasses import replace

from edgepick_host.simulate import sayings
from edgepick_host.simulate.scenario import Identity
from edgepick_host.simulate.state import Action, DeviceState, Send, Vanish, Wake
from edgepick_wire import codec
from edgepick_wire.messages import ModelState, Report
from edgepick_wire.topics import DeviceTopic

RESEND_SPREAD = 0.25
"""Share by which devices wait for different times, as the agent's do."""


class Turn:
    """One step in the making."""

    def __init__(self, device: Identity, state: DeviceState, now: float) -> None:
        self.device = device
        self.state = state
        self.now = now
        self.actions: list[Action] = []

    def change(self, **changes: object) -> None:
        """Change the state."""
        self.state = replace(self.state, **changes)  # type: ignore[arg-type]

    def send(self, kind: DeviceTopic, message: object) -> None:
        """Publish a retained message."""
        self.actions.append(Send(kind=kind, payload=codec.encode(message), retain=True))

    def become(self, model: ModelState) -> None:
        """Say where a model stands now."""
        self.change(models={**self.state.models, model.model: model})
        self.send(DeviceTopic.REPORTED, sayings.reported(self.device, self.state))

    def file(self, report: Report) -> None:
        """Keep a report until it is acknowledged, and send it."""
        payload = sayings.told(self.device, report)
        first = not self.state.outbox
        self.change(counter=self.state.counter + 1, outbox={**self.state.outbox, report.id: payload})
        if first:
            self.plan_resending(self.device.scenario.pace.resend)
        self.actions.append(Send(kind=DeviceTopic.REPORT, payload=payload, retain=False))

    def resend(self) -> None:
        """Send every report that waits."""
        reports = self.state.outbox.values()
        self.actions += [Send(kind=DeviceTopic.REPORT, payload=payload, retain=False) for payload in reports]

    def plan_resending(self, pause: float) -> None:
        """Send again after ``pause`` seconds, and a little more that differs between devices."""
        stretch = 1 + RESEND_SPREAD * self.device.lot("resend").random()
        self.change(resend_at=self.now + pause * stretch, resend_pause=pause)

    def vanish(self) -> None:
        """Be gone."""
        self.change(online=False, task=None, crash=None, resend_at=None, flood_at=None, vanish_at=None)
        self.actions.append(Vanish())

    def plan_waking(self) -> None:
        """Have the shell call again when something is due."""
        due = self.state.next_due
        if self.state.waking is not None and self.state.waking <= self.now:
            self.change(waking=None)
        if due is not None and (self.state.waking is None or due < self.state.waking):
            self.change(waking=due)
            self.actions.append(Wake(at=due))
