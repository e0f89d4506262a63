"""With which cluster a node comes back: its old one, or a new one."""

from __future__ import annotations

from gb10.controller.cluster.sight import Sight
from gb10.controller.errors import Gb10Error
from gb10.controller.rebuild.history import NodeHistory
from gb10.controller.rebuild.notebook import Notebook
from gb10.controller.rebuild.roles import Roles


class ClusterReturn:
    """Decides with which cluster a node comes back, and refuses what cannot work."""

    def __init__(self, roles: Roles, history: NodeHistory, notebook: Notebook, sight: Sight) -> None:
        self._roles = roles
        self._history = history
        self._notebook = notebook
        self._sight = sight

    @property
    def is_new(self) -> bool:
        """Return True if a head comes back with another cluster: because a person wants that, or without a backup."""
        return self._roles.is_head and (self._history.rebootstrap or not self._history.can_restore)

    def check_said(self) -> None:
        """Raise REBUILD_IMPOSSIBLE for a head without a backup, unless a person has asked for a new cluster."""
        without = self._roles.is_head and "backup" in self._history.overrides
        if without and not self._history.rebootstrap and self._notebook.memory.k3s:
            text = f"without a backup {self._roles.name} comes back with another cluster: say so with --rebootstrap"
            raise Gb10Error("REBUILD_IMPOSSIBLE", text, host=self._roles.name)

    def check_version(self) -> None:
        """Raise REBUILD_K3S_VERSION if the restore would refuse the state of another version than the inventory's."""
        install, wanted = self._sight.k3s(self._roles.target), self._roles.target.wanted_k3s
        restored = not self.is_new and "backup" not in self._history.overrides
        if restored and wanted and install and install.version not in (None, wanted):
            text = f"{self._roles.name} has K3s {install.version}, and would come back with {wanted}"
            raise Gb10Error("REBUILD_K3S_VERSION", text, host=self._roles.name)
