"""Which profile a machine fits, from what its firmware says about itself. Pure; a literal table.

The texts are the ``model`` and ``compatible`` properties of the boards' device trees in the Linux
sources: arch/arm64/boot/dts/{broadcom,freescale,mediatek,nvidia}; the USB ids are those of the Coral
USB accelerator before and after its firmware is loaded (coral.ai/docs/accelerator/get-started).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

GENERIC = "generic-linux"

CORAL_USB_IDS = frozenset({"1a6e:089a", "18d1:9302"})
"""Before (Global Unichip Corp.) and after (Google Inc.) the runtime has loaded its firmware."""

MODELS = (
    (r"Raspberry Pi 5", "raspberry-pi-5"),
    (r"Raspberry Pi (Compute Module 5|500)", "raspberry-pi-5"),
    (r"Raspberry Pi (4|400|Compute Module 4)", "raspberry-pi-4"),
    (r"Raspberry Pi (3|Compute Module 3)", "raspberry-pi-3"),
    (r"Raspberry Pi Zero 2", "raspberry-pi-zero-2w"),
    (r"MX8MQ Phanbell|Coral MT8167|Coral Dev Board", "coral-dev-board"),
    (r"AGX Orin", "jetson-agx-orin"),
    (r"Orin (Nano|NX)", "jetson-orin-nano"),
    (r"AGX Xavier", "jetson-agx-xavier"),
    (r"Xavier NX", "jetson-xavier-nx"),
    (r"Jetson TX2", "jetson-tx2"),
    (r"Jetson Nano", "jetson-nano"),
)
"""Device-tree ``model`` (a pattern found anywhere in it) -> profile; the first match holds."""

COMPATIBLES = {
    "raspberrypi,5-model-b": "raspberry-pi-5",
    "raspberrypi,4-model-b": "raspberry-pi-4",
    "raspberrypi,3-model-b": "raspberry-pi-3",
    "raspberrypi,3-model-b-plus": "raspberry-pi-3",
    "raspberrypi,model-zero-2-w": "raspberry-pi-zero-2w",
    "google,imx8mq-phanbell": "coral-dev-board",
    "nvidia,p3701": "jetson-agx-orin",
    "nvidia,p3767": "jetson-orin-nano",
    "nvidia,p2972-0000": "jetson-agx-xavier",
    "nvidia,p2888": "jetson-agx-xavier",
    "nvidia,p3668": "jetson-xavier-nx",
    "nvidia,p2771-0000": "jetson-tx2",
    "nvidia,p3310": "jetson-tx2",
    "nvidia,p3450-0000": "jetson-nano",
}
"""Beginning of a device-tree ``compatible`` entry -> profile, for a model text that was changed."""

WITH_CORAL_USB = {"raspberry-pi-4": "coral-usb-accelerator"}
"""Board -> the profile that it has with a Coral USB accelerator plugged in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """What a machine turned out to be.

    Attributes:
        profile: The profile that fits.
        known: The firmware named a board of the table; otherwise ``profile`` is the generic one.
        machine: What the machine calls itself.
        accelerators: Found beside the board ("edgetpu-usb").
        notes: What a person should know about the choice.
    """

    profile: str
    known: bool
    machine: str
    accelerators: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def identify(model: str, compatible: Iterable[str], usb_ids: Iterable[str], *, machine: str) -> Board:
    """Return which profile fits a machine.

    Args:
        model: Device-tree model; empty where there is no device tree.
        compatible: Device-tree compatible strings, most specific first.
        usb_ids: "vendor:product" of everything on the USB, lower-case hexadecimal.
        machine: What to call it where there is no device tree.
    """
    board = _by_model(model) or _by_compatible(compatible)
    coral = bool(CORAL_USB_IDS & set(usb_ids))
    profile = WITH_CORAL_USB.get(board or "", board) if coral else board
    return Board(
        profile=profile or GENERIC,
        known=board is not None,
        machine=model or machine,
        accelerators=("edgetpu-usb",) if coral else (),
        notes=_notes(board, coral=coral),
    )


def _by_model(model: str) -> str | None:
    return next((profile for pattern, profile in MODELS if re.search(pattern, model)), None)


def _by_compatible(compatible: Iterable[str]) -> str | None:
    known = (COMPATIBLES[start] for entry in compatible for start in COMPATIBLES if entry.startswith(start))
    return next(known, None)


def _notes(board: str | None, *, coral: bool) -> tuple[str, ...]:
    if coral and board not in WITH_CORAL_USB:
        return ("A Coral USB accelerator is plugged in, but no profile joins it with this board: it is not used.",)
    if board is None:
        return (f"No known board was recognised, so the profile {GENERIC!r} is used.",)
    return ()


def device_name(hostname: str) -> str:
    """Return a device id made from a host name: lower case, without the domain, allowed characters only."""
    plain = re.sub(r"[^a-z0-9._-]+", "-", hostname.lower().split(".")[0])
    return plain.strip("._-")[:64] or "device"
