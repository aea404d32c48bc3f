"""Reads from sysfs what the machine calls itself and what is plugged into it.

Everything lies below an injectable root, so that recorded trees of boards can be read in tests.
"""

import platform
from collections.abc import Iterator
from pathlib import Path

from edgepick_agent.core.boards import Board, identify

DEVICE_TREE = ("proc/device-tree", "sys/firmware/devicetree/base")
DMI = "sys/devices/virtual/dmi/id"
USB = "sys/bus/usb/devices"


def detect(sysfs_root: Path = Path("/")) -> Board:
    """Return the board that the tree below ``sysfs_root`` describes; reads only, never fails."""
    return identify(
        _device_tree(sysfs_root, "model").partition("\0")[0],
        [entry for entry in _device_tree(sysfs_root, "compatible").split("\0") if entry],
        set(_usb_ids(sysfs_root)),
        machine=_machine(sysfs_root),
    )


def _device_tree(root: Path, name: str) -> str:
    return next((text for folder in DEVICE_TREE if (text := _text(root / folder / name))), "")


def _usb_ids(root: Path) -> Iterator[str]:
    for device in sorted((root / USB).glob("*/idVendor")):
        yield f"{_text(device)}:{_text(device.parent / 'idProduct')}".lower()


def _machine(root: Path) -> str:
    vendor, product = (_text(root / DMI / name) for name in ("sys_vendor", "product_name"))
    return f"{vendor} {product}".strip() or f"{platform.system()} {platform.machine()}"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
