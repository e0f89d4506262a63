"""Log lines in K3s' format, and notifications to systemd."""

from __future__ import annotations

import json
import os
import socket
import sys

from gb10.lab.kube.objects import now


def log(level: str, message: str) -> None:
    """Write one line as logrus does. Under systemd it goes to the journal."""
    print(f'time="{now()}" level={level} msg={json.dumps(message)}', file=sys.stderr, flush=True)


def notify(state: str) -> None:
    """Send systemd a state such as READY=1, if the unit has Type=notify."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.connect("\0" + address[1:] if address.startswith("@") else address)
        channel.send(state.encode())
