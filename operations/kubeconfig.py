"""The administrator's kubeconfig, copied to the controller without showing it."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

from pyinfra.api import FunctionCommand, Host, State, operation

from gb10.facts.k3s import Kubeconfig
from gb10.operations.kit.failures import say


@operation(is_idempotent=False)
def kubeconfig_file(dest: str) -> Generator[FunctionCommand, None, None]:
    """
    Write the head's kubeconfig to a file on the controller.

    + dest: its path; it is made 0600, and must not exist
    """
    yield FunctionCommand(_write, (dest,), {})


def _write(state: State, host: Host, dest: str) -> bool:
    content = host.get_fact(Kubeconfig)
    if content is None:
        say(host, "K3S_ABSENT", f"{host.name} has no kubeconfig: its K3s server has not been started")
        return False
    descriptor = os.open(Path(dest), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(content.unmask())
    return True
