"""A broker of one's own: its configuration, its certificates, and those of the devices."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepick_host.app.composition import clock, load
from edgepick_host.app.trust import read_root
from edgepick_host.core import broker_access
from edgepick_host.core.broker_access import BrokerKind, BrokerPlan, SitePlan
from edgepick_host.core.settings import HostSettings
from edgepick_host.core.site_bridge import own_plan
from edgepick_host.errors import InputFileError, StateError
from edgepick_wire import codec
from edgepick_wire.errors import WireError
from edgepick_wire.ids import check_name

AUTHORITY = "edgepick_host.adapters.authority:Authority"
WRITE_FILE = "edgepick_host.adapters.authority:write_file"
MAKE_FOLDER = "edgepick_host.adapters.authority:make_folder"
ARCHIVE_OF = "edgepick_host.adapters.device_archive:archive_of"
PLAN_FILE = "broker.json"
PUBLIC = 0o644
PRIVATE = 0o600


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerFolder:
    """What a set-up wrote.

    Attributes:
        plan: What it is for.
        server: Folder that goes to the broker's machine.
        authority: Folder with the authority's key, which goes nowhere.
        settings: Section of ``edgepick.toml`` that leads the host to this broker.
    """

    plan: BrokerPlan
    server: str
    authority: str
    settings: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolment:
    """A device's folder, ready to be copied to it.

    Attributes:
        archive: The same as one file, if that was asked for.
        set_aside: The ``agent.toml`` of an earlier enrolment, which said something else.
    """

    device: str
    folder: str
    renewed: bool
    archive: str | None = None
    set_aside: str | None = None


def init_broker(
    folder: Path, fleet: str, hosts: tuple[str, ...], *, kind: BrokerKind, port: int, place: str
) -> BrokerFolder:
    """Return what was set up in ``folder``: authority, broker configuration, certificates of broker and host.

    Raises:
        StateError: There is an authority already (nothing was changed), or the folder cannot be written.
        BadNameError: The fleet's name is not allowed.
    """
    check_name("fleet", fleet)
    server, own = folder / "server", folder / "host"
    plan = BrokerPlan(fleet=fleet, hosts=hosts, port=port, kind=kind, place=place or str(server.absolute()))
    authority = load(AUTHORITY).create(folder / "authority", fleet, now=clock().now())
    for made in (server, server / "data", own):
        load(MAKE_FOLDER)(made)
    _issue(authority, plan, server, own)
    for name, content in broker_access.server_files(plan).items():
        write(server / name, content.encode())
    write(server / "crl.pem", authority.revocations())
    write(folder / PLAN_FILE, codec.encode_document(plan, indent=2))
    return BrokerFolder(
        plan=plan,
        server=str(server),
        authority=str(folder / "authority"),
        settings=broker_access.host_config(plan, str(own)),
    )


def renew_broker(folder: Path) -> BrokerPlan:
    """Return the plan whose broker and host have got new certificates for the keys that they have.

    Raises:
        InputFileError: No broker was set up in ``folder``.
    """
    plan, authority = opened(folder)
    _issue(authority, plan, folder / "server", folder / "host")
    for site in plan.sites:
        issue_bridge(authority, site, folder / "sites" / site.name)
    return plan


def enroll(
    settings: HostSettings,
    folder: Path,
    device: str,
    *,
    profile: str,
    site: str | None = None,
    out: Path | None,
    renew: bool,
    archive: Path | None = None,
) -> Enrolment:
    """Return a device's folder: key, certificate, authority, root document, and ``agent.toml``.

    ``archive`` gets all of it as one file; ``site`` is where the device is, so that it speaks to the broker there.
    A renewal leaves an ``agent.toml`` as it is.

    Raises:
        StateError: It is enrolled and ``renew`` is false, or the other way round; or a file cannot be written.
        InputFileError: No broker was set up in ``folder``, or no root document.
        BadNameError: A name is not allowed.
    """
    check_name("device", device)
    check_name("profile", profile)
    plan, authority = opened(folder)
    entrance = plan if site is None else own_plan(plan, _site(plan, site))
    document, root = read_root(settings)
    if document.fleet != plan.fleet:
        raise StateError(f"the broker is of fleet {plan.fleet!r}, the root document of {document.fleet!r}")
    _refuse(device, renew=renew, known=authority.knows(device))
    target = out or folder / "devices" / device
    load(MAKE_FOLDER)(target)
    authority.issue_client(target, "device", device, keep_key=renew)
    write(target / "ca.pem", authority.pem)
    write(target / "root.signed", root)
    config = target / "agent.toml"
    set_aside = None
    if not (renew and config.exists()):
        set_aside = _write_anew(config, broker_access.agent_config(entrance, device, profile).encode())
    if archive is not None:
        load(WRITE_FILE)(archive, load(ARCHIVE_OF)(target), mode=PRIVATE)
    return Enrolment(
        device=device,
        folder=str(target),
        renewed=renew,
        archive=None if archive is None else str(archive),
        set_aside=None if set_aside is None else str(set_aside),
    )


def expel(folder: Path, device: str) -> Path:
    """Return the broker's new list of revoked certificates, which has every one of the device's.

    Raises:
        StateError: The device has none that counts.
        InputFileError: No broker was set up in ``folder``.
    """
    check_name("device", device)
    plan, authority = opened(folder)
    if not authority.expel(device):
        raise StateError(f"device {device!r} has no certificate of this authority that counts")
    target = folder / "server" / "crl.pem"
    revoked = authority.revocations()
    for server in (folder / "server", *(folder / "sites" / site.name for site in plan.sites)):
        write(server / "crl.pem", revoked)
    return target


def _refuse(device: str, *, renew: bool, known: bool) -> None:
    if known and not renew:
        raise StateError(f"device {device!r} is enrolled already", hint="--renew makes it a new certificate.")
    if renew and not known:
        raise StateError(f"device {device!r} is not enrolled", hint="Leave --renew away.")


def _issue(authority: Any, plan: BrokerPlan, server: Path, own: Path) -> None:
    authority.issue_server(server, plan.hosts)
    authority.issue_client(own, "host", broker_access.HOST_USER, keep_key=True)
    for target in (server, own):
        write(target / "ca.pem", authority.pem)


def issue_bridge(authority: Any, site: SitePlan, target: Path) -> None:
    """Give a site's broker a certificate for its devices, and one with which its bridge meets the central broker."""
    authority.issue_server(target, site.hosts)
    authority.issue_client(target, "bridge", site.user, keep_key=True)
    write(target / "ca.pem", authority.pem)


def _site(plan: BrokerPlan, name: str) -> SitePlan:
    found = next((site for site in plan.sites if site.name == name), None)
    if found is None:
        known = ", ".join(site.name for site in plan.sites) or "none"
        raise StateError(f"there is no site {name!r}; there are: {known}", hint="`edgepick broker bridge` adds one.")
    return found


def opened(folder: Path) -> tuple[BrokerPlan, Any]:
    """Return the plan of the broker that was set up in a folder, and its authority."""
    path = folder / PLAN_FILE
    try:
        plan = codec.decode(BrokerPlan, path.read_bytes())
    except (OSError, WireError) as error:
        raise InputFileError(
            f"{path}: {getattr(error, 'strerror', None) or error}",
            hint="`edgepick broker init` sets a broker up; --dir names its folder.",
        ) from error
    return plan, load(AUTHORITY)(folder / "authority", now=clock().now())


def _write_anew(path: Path, data: bytes) -> Path | None:
    """Write a file that a person may have changed; return where what it said before is now, if that was different."""
    before = path.read_bytes() if path.exists() else data
    aside = None if before == data else path.with_name(f"{path.name}.before")
    if aside is not None:
        write(aside, before)
    write(path, data)
    return aside


def write(path: Path, data: bytes) -> None:
    """Write a file that everybody may read, whole or not at all."""
    load(WRITE_FILE)(path, data, mode=PUBLIC)
