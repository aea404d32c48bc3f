"""What to do about each way in which a connection to the broker fails, by the words that name it. Pure."""

CLOCK = "set this device's clock: sudo timedatectl set-ntp true, or sudo date -s 'YYYY-MM-DD HH:MM'"
RENEW = "on the host: edgepick devices enroll ID --renew; then copy device.pem to here"
ENROLL = "on the host: edgepick devices enroll ID; then copy device.pem and device.key together to here"
AUTHORITY = "copy ca.pem from the host to here, and name it as broker.ca_file"
NAME = "set broker.host to a name in the broker's certificate, or have it made for this one: edgepick broker init"
LOGIN = "compare broker.username and the content of broker.password_file with the broker's"
WAY = "is the broker's machine on, on this network, and not behind a firewall? Try: ping HOST"
LOOK_CLOSER = "edgepick-agent doctor shows where the way to the broker ends"

MENDS = {
    "connection refused": "the machine is there, but no broker listens: start it, or correct broker.port",
    "name not found": "correct broker.host, or mend the network: cable, Wi-Fi, DNS; try: getent hosts HOST",
    "no answer": WAY,
    "unreachable": "this device has no network: cable or Wi-Fi; try: ip address",
    "No route": WAY,
    "not yet valid by this device's clock": CLOCK,
    "certificate has expired": f"on the host: edgepick broker renew; but first, if `date` is wrong here, {CLOCK}",
    "self-signed": AUTHORITY,
    "unknown authority": AUTHORITY,
    "another host name": NAME,
    "another address": NAME,
    "wants a certificate of this device": ENROLL,
    "refused this device's certificate: expired": f"{RENEW}; is the clock of the broker's machine right?",
    "refused this device's certificate: it was revoked": f"{ENROLL}, if the device is to come back",
    "refused this device's certificate: its authority": ENROLL,
    "refused this device's certificate: not valid": f"{RENEW}; is the clock of the broker's machine right?",
    "refused this device's certificate: not made": ENROLL,
    "refused this device's certificate: certificate and key": "copy device.pem and device.key together from the host",
    "refused this device's certificate": RENEW,
    "TLS": "does the broker speak TLS on this port? 8883 usually does, 1883 does not: broker.port, broker.tls",
    "does not speak MQTT": "use a broker that speaks MQTT 3.1.1, or correct broker.port",
    "does not accept this client id": "allow this device's id at the broker: `device` in the configuration",
    "unavailable": "look at the broker's log; this device goes on trying",
    "bad user name": LOGIN,
    "not authorised": LOGIN,
    "connection lost": "if it goes on: has another device the same `device` in its configuration? One id, one device",
}
"""Part of what the agent says about the broker -> what to do; the first that is in it counts."""


def broker_mend(words: str) -> str:
    """Return what to do about a broker that cannot be reached, from what the agent says about it."""
    return next((mend for part, mend in MENDS.items() if part in words), LOOK_CLOSER)
