"""Docker and K3s on the nodes, started where somebody stopped them during a rebuild."""

from __future__ import annotations

from gb10.controller.cluster.sight import Sight
from gb10.controller.rebuild.notebook import Notebook
from gb10.controller.rebuild.roles import Roles
from gb10.controller.rebuild.tools import Work
from gb10.facts.reading.k3s import UNITS

DOCKER = "docker"  # its unit


class Services:
    """Starts services that ran when the rebuild began."""

    def __init__(self, roles: Roles, notebook: Notebook, work: Work, sight: Sight) -> None:
        self._roles = roles
        self._notebook = notebook
        self._work = work
        self._sight = sight

    def wake(self, names: tuple[str, ...], *, whole: bool) -> None:
        """Start Docker and K3s on these nodes.

        Unless the cluster is `whole`, with the target in it, K3s is not started on the target; and where the target is
        the head, on no node: an agent that finds no server does not come up.
        """
        k3s, head = self._notebook.memory.k3s, self._roles.head.name
        for name in sorted(names, key=lambda name: name != head):  # no agent starts without its server
            joins = k3s and (whole or not (self._roles.is_head or name == self._roles.name))
            services = [DOCKER, *(UNITS.values() if joins else ())]
            self._work("start_services", f"See what runs on {name}", (name,), services=services)
        self._sight.forget()


class Cordon:
    """The cordon of the target, set back to what it was before the rebuild."""

    def __init__(self, roles: Roles, notebook: Notebook, work: Work, sight: Sight) -> None:
        self._roles = roles
        self._notebook = notebook
        self._work = work
        self._sight = sight

    @property
    def wanted(self) -> bool:
        """Return True if the node was cordoned before, by somebody else."""
        return self._notebook.memory.cordoned

    def set_back(self) -> None:
        """Cordon the node, or let pods onto it, as before."""
        name = self._roles.name
        title = f"Cordon {name} as before" if self.wanted else f"Let pods onto {name}"
        node = self._roles.target.node_name
        self._work("admit_node", title, (self._roles.head.name,), node=node, cordoned=self.wanted)
        self._sight.forget()
