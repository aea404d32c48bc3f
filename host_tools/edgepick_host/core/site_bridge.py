"""A site's own broker: a mosquitto that holds a copy of what devices read, and speaks to the central one for them.

Every topic crosses the bridge in one direction only, so that nothing can go round in circles; what the host writes
comes in, what devices write goes out. Pure text.
"""

import dataclasses

from edgepick_host.core.broker_access import (
    DEVICE_WRITES,
    HOST_WRITES,
    BrokerPlan,
    SitePlan,
    bridge_state,
    mosquitto_acl,
    mosquitto_conf,
)
from edgepick_wire.topics import PREFIX

KEEPALIVE_SECONDS = 30
"""An uplink that died without a word is noticed after one and a half of them."""

RESTART_SECONDS = (2, 30)
"""Between attempts to connect again: the least, doubled up to the most, with jitter, as mosquitto does it."""


def site_files(plan: BrokerPlan, site: SitePlan) -> dict[str, str]:
    """Return name -> content of the configuration files of a site's broker."""
    return {
        "acl": mosquitto_acl(plan.fleet, (site,)),
        "mosquitto.conf": mosquitto_conf(own_plan(plan, site)) + bridge(plan, site),
    }


def own_plan(plan: BrokerPlan, site: SitePlan) -> BrokerPlan:
    """Return the plan of the site's broker as devices meet it."""
    return dataclasses.replace(plan, hosts=site.hosts, port=site.port, place=site.place, sites=())


def bridge(plan: BrokerPlan, site: SitePlan) -> str:
    """Return the part of mosquitto.conf that leads to the central broker."""
    base = f"{PREFIX}/{plan.fleet}"
    inwards = "\n".join(f"topic {base}/{topic} in 1" for topic in HOST_WRITES)
    outwards = "\n".join(f"topic {base}/d/+/{kind} out 1" for kind in DEVICE_WRITES)
    least, most = RESTART_SECONDS
    return f"""
# The way to the central broker.
connection {site.name}
address {plan.hosts[0]}:{plan.port}
bridge_cafile {site.place}/ca.pem
bridge_certfile {site.place}/bridge.pem
bridge_keyfile {site.place}/bridge.key
remote_clientid edgepick-site-{site.name}
# Both brokers keep what the other has not had, while the uplink is down.
cleansession false
keepalive_interval {KEEPALIVE_SECONDS}
restart_timeout {least} {most}
# Tells a mosquitto at the other end that this is a bridge: retained messages stay retained on their way.
try_private true
# 1 or 0, retained on both brokers: whether the bridge is connected.
notifications true
notification_topic {bridge_state(site.name)}

# What the host writes comes in,
{inwards}
# what devices write goes out, and nothing goes both ways.
{outwards}
"""
