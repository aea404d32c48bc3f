"""Setting up a device: the board is recognised, the file written once, the next steps said."""

from pathlib import Path

import pytest

from edgepick_agent.adapters.detect import detect
from edgepick_agent.config import load_settings
from edgepick_agent.core.boards import device_name

CORAL = ("18d1", "9302")

BOARDS = [
    ("Raspberry Pi 3 Model B Plus Rev 1.3", "raspberrypi,3-model-b-plus\0brcm,bcm2837", None, "raspberry-pi-3"),
    ("Raspberry Pi 4 Model B Rev 1.4", "raspberrypi,4-model-b\0brcm,bcm2711", None, "raspberry-pi-4"),
    ("Raspberry Pi 400 Rev 1.0", "raspberrypi,400\0brcm,bcm2711", None, "raspberry-pi-4"),
    ("Raspberry Pi Compute Module 4 Rev 1.0", "raspberrypi,4-compute-module", None, "raspberry-pi-4"),
    ("Raspberry Pi 4 Model B Rev 1.4", "raspberrypi,4-model-b", CORAL, "coral-usb-accelerator"),
    ("Raspberry Pi 4 Model B Rev 1.4", "raspberrypi,4-model-b", ("1a6e", "089a"), "coral-usb-accelerator"),
    ("Raspberry Pi 4 Model B Rev 1.4", "raspberrypi,4-model-b", ("18d1", "4ee7"), "raspberry-pi-4"),
    ("Raspberry Pi 5 Model B Rev 1.0", "raspberrypi,5-model-b\0brcm,bcm2712", None, "raspberry-pi-5"),
    ("Raspberry Pi Zero 2 W Rev 1.0", "raspberrypi,model-zero-2-w", None, "raspberry-pi-zero-2w"),
    ("Google i.MX8MQ Phanbell", "google,imx8mq-phanbell\0fsl,imx8mq", None, "coral-dev-board"),
    ("Freescale i.MX8MQ Phanbell", "fsl,imx8mq-phanbell", None, "coral-dev-board"),
    ("Google Coral MT8167", "mediatek,mt8167", None, "coral-dev-board"),
    ("NVIDIA Jetson Nano Developer Kit", "nvidia,p3450-0000\0nvidia,tegra210", None, "jetson-nano"),
    ("NVIDIA Jetson Orin Nano Developer Kit", "nvidia,p3768-0000+p3767-0005", None, "jetson-orin-nano"),
    ("NVIDIA Orin NX Developer Kit", "nvidia,p3767-0000\0nvidia,tegra234", None, "jetson-orin-nano"),
    ("NVIDIA Jetson AGX Orin Developer Kit", "nvidia,p3737-0000+p3701-0000", None, "jetson-agx-orin"),
    ("NVIDIA Jetson TX2 Developer Kit", "nvidia,p2771-0000\0nvidia,tegra186", None, "jetson-tx2"),
    ("NVIDIA Jetson Xavier NX Developer Kit (SD-card)", "nvidia,p3509-0000+p3668-0000", None, "jetson-xavier-nx"),
    ("NVIDIA Jetson AGX Xavier Developer Kit", "nvidia,p2972-0000\0nvidia,tegra194", None, "jetson-agx-xavier"),
    ("Our own carrier", "acme,carrier\0nvidia,p3767-0005\0nvidia,tegra234", None, "jetson-orin-nano"),
    ("Rock 5B", "radxa,rock-5b", None, "generic-linux"),
    ("", "", None, "generic-linux"),
]


def board_tree(root: Path, model: str, compatible: str = "", usb: tuple[str, str] | None = None) -> Path:
    """Lay out what a board shows of itself."""
    tree = root / "proc/device-tree"
    tree.mkdir(parents=True)
    if model:
        (tree / "model").write_bytes(model.encode() + b"\0")
        (tree / "compatible").write_bytes(compatible.encode() + b"\0")
    for port, (vendor, product) in {"1-1": ("2109", "3431"), **({"2-1": usb} if usb else {})}.items():
        device = root / "sys/bus/usb/devices" / port
        device.mkdir(parents=True)
        (device / "idVendor").write_text(f"{vendor}\n")
        (device / "idProduct").write_text(f"{product}\n")
    return root


@pytest.mark.parametrize(("model", "compatible", "usb", "profile"), BOARDS)
def test_a_board_is_recognised_by_what_its_firmware_says(tmp_path, model, compatible, usb, profile):
    """The device tree and the USB ids of each supported board lead to its profile."""
    board = detect(board_tree(tmp_path, model, compatible, usb))

    assert board.profile == profile
    assert board.known == (profile != "generic-linux")
    assert model in board.machine


def test_a_coral_stick_on_another_board_is_mentioned(tmp_path):
    """An accelerator that no profile joins with the board is not passed over in silence."""
    board = detect(board_tree(tmp_path, "Raspberry Pi 5 Model B", usb=CORAL))

    assert board.profile == "raspberry-pi-5"
    assert "Coral USB" in board.notes[0]


def test_init_writes_a_configuration_that_is_valid_at_once(command, tmp_path, root_file):
    """After ``init`` with a root document, the file loads, names the detected board and the fleet of the document."""
    tree = board_tree(tmp_path / "tree", "Raspberry Pi 4 Model B Rev 1.4")
    out = tmp_path / "etc" / "agent.toml"

    result = command(
        "init", "--out", out, "--root", root_file, "--broker", "broker.local:2883", "--sysfs-root", tree,
        "--device", "pi-7",
    )  # fmt: skip
    settings = load_settings(out, {})

    assert result.exit_code == 0, result.output
    assert (settings.device, settings.fleet, settings.profile) == ("pi-7", "farm", "raspberry-pi-4")
    assert (settings.broker.host, settings.broker.port, settings.stand_in) == ("broker.local", 2883, False)
    assert (out.parent / "root.signed").read_bytes() == root_file.read_bytes()
    assert "edgepick-agent doctor" in result.output
    assert sorted(p.name for p in out.parent.iterdir()) == ["agent.toml", "root.signed"]


def test_init_never_replaces_a_file_unasked(command, tmp_path):
    """A second ``init`` leaves the file alone and says how to replace it."""
    out = tmp_path / "agent.toml"
    out.write_text("mine")

    refused = command("init", "--out", out)
    forced = command("init", "--out", out, "--force")

    assert refused.exit_code == 1
    assert "--force" in refused.stderr
    assert forced.exit_code == 0
    assert load_settings(out, {}, files=False).profile == "generic-linux"


@pytest.mark.parametrize(
    ("extra", "stands_in"),
    [
        (("--profile", "raspberry-pi-5"), True),
        (("--profile", "raspberry-pi-4"), False),
        (("--stand-in",), True),
        ((), False),
    ],
)
def test_a_machine_that_is_not_the_board_stands_in(command, tmp_path, extra, stands_in):
    """A profile other than the detected one, or ``--stand-in``, marks every figure; and init says so."""
    tree = board_tree(tmp_path / "tree", "Raspberry Pi 4 Model B Rev 1.4")
    out = tmp_path / "agent.toml"

    result = command("init", "--out", out, "--sysfs-root", tree, *extra)

    assert load_settings(out, {}, files=False).stand_in is stands_in
    assert ("stand-in   yes" in result.output) is stands_in


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("host", ("host", 1883, False)),
        ("10.0.0.2:2883", ("10.0.0.2", 2883, False)),
        ("mqtt://host", ("host", 1883, False)),
        ("mqtts://host", ("host", 8883, True)),
        ("mqtts://host:9", ("host", 9, True)),
        ("[::1]:1884", ("::1", 1884, False)),
    ],
)
def test_a_broker_is_given_as_host_or_as_url(command, tmp_path, given, expected):
    """Every usual way to write an address is understood."""
    out = tmp_path / "agent.toml"

    command("init", "--out", out, "--broker", given)
    broker = load_settings(out, {}, files=False).broker

    assert (broker.host, broker.port, broker.tls) == expected


@pytest.mark.parametrize(
    "arguments",
    [
        ("--broker", "host:99999"),
        ("--broker", "http://host"),
        ("--device", "Pi 7"),
        ("--root", "/nowhere/root.signed"),
    ],
)
def test_a_wrong_option_is_a_usage_error_and_writes_nothing(command, tmp_path, arguments):
    """What cannot be meant ends with exit code 2, before anything is written."""
    result = command("init", "--out", tmp_path / "new" / "agent.toml", *arguments)

    assert result.exit_code == 2
    assert not (tmp_path / "new").exists()


def test_a_value_that_the_agent_would_refuse_is_not_written(command, tmp_path):
    """The file is read back before it takes its name; a refused one leaves nothing behind."""
    out = tmp_path / "agent.toml"

    result = command("init", "--out", out, "--state-dir", "/" + "x" * 90)

    assert result.exit_code == 2
    assert "state_dir" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_root_document_that_does_not_sign_itself_is_refused(command, tmp_path, root_file):
    """A document with a flipped bit ends with exit code 4, and no configuration is written."""
    data = bytearray(root_file.read_bytes())
    data[-20] ^= 1
    root_file.write_bytes(data)

    result = command("init", "--out", tmp_path / "agent.toml", "--root", root_file)

    assert result.exit_code in {1, 4}
    assert "error:" in result.stderr
    assert not (tmp_path / "agent.toml").exists()


def test_the_root_document_of_another_fleet_is_refused(command, tmp_path, root_file):
    """``--fleet`` and the document must agree."""
    result = command("init", "--out", tmp_path / "agent.toml", "--root", root_file, "--fleet", "other")

    assert result.exit_code == 1
    assert "'farm'" in result.stderr


def test_a_folder_that_may_not_be_written_says_sudo(command):
    """Where nothing can be written, the message names the place and the way out."""
    result = command("init", "--out", "/proc/edgepick/agent.toml")

    assert result.exit_code == 1
    assert "/proc/edgepick" in result.stderr
    assert "sudo" in result.stderr


@pytest.mark.parametrize(
    ("hostname", "device"),
    [("Pi-7.farm.local", "pi-7"), ("my_board", "my_board"), ("--", "device"), ("Grüße", "gr-e"), ("x" * 99, "x" * 64)],
)
def test_a_host_name_becomes_an_allowed_device_id(hostname, device):
    """Whatever the host is called, the proposed id is one that the protocol takes."""
    assert device_name(hostname) == device
