"""Brokers of sites, bridged to the central one."""

from dataclasses import dataclass, replace
from pathlib import Path

from edgepick_host.app.broker import MAKE_FOLDER, PLAN_FILE, issue_bridge, opened, write
from edgepick_host.app.composition import load
from edgepick_host.core import broker_access, site_bridge
from edgepick_host.core.broker_access import BrokerKind, SitePlan
from edgepick_host.errors import StateError
from edgepick_wire import codec
from edgepick_wire.ids import check_name


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteFolder:
    """What was written for a site.

    Attributes:
        site: What it is for.
        folder: Goes to the site's broker.
        acl: The central broker's access list, which knows the site now.
    """

    site: SitePlan
    folder: str
    acl: str


def add_site(folder: Path, name: str, hosts: tuple[str, ...], *, port: int, place: str) -> SiteFolder:
    """Return what was written for a site's broker; the same name again makes its files anew and keeps its keys.

    Raises:
        InputFileError: No broker was set up in ``folder``.
        StateError: The central broker is no mosquitto.
        BadNameError: The site's name is not allowed.
    """
    check_name("site", name)
    plan, authority = opened(folder)
    if plan.kind is not BrokerKind.MOSQUITTO:
        raise StateError(
            f"the central broker is {plan.kind}; bridges are written for mosquitto on both ends",
            hint="docs/broker.md says what a bridge to another broker needs.",
        )
    target = folder / "sites" / name
    site = SitePlan(name=name, hosts=hosts, port=port, place=place or str(target.absolute()))
    plan = replace(plan, sites=(*(s for s in plan.sites if s.name != name), site))
    for made in (target, target / "data"):
        load(MAKE_FOLDER)(made)
    issue_bridge(authority, site, target)
    for file, content in site_bridge.site_files(plan, site).items():
        write(target / file, content.encode())
    write(target / "crl.pem", authority.revocations())
    acl = folder / "server" / "acl"
    write(acl, broker_access.mosquitto_acl(plan.fleet, plan.sites).encode())
    write(folder / PLAN_FILE, codec.encode_document(plan, indent=2))
    return SiteFolder(site=site, folder=str(target), acl=str(acl))
