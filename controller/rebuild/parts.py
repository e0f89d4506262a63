"""What the steps of one node share."""

from __future__ import annotations

from gb10.controller.inventory import InventoryHost
from gb10.controller.rebuild.backups import Backups
from gb10.controller.rebuild.cluster_return import ClusterReturn
from gb10.controller.rebuild.copies import Copies
from gb10.controller.rebuild.history import NodeHistory
from gb10.controller.rebuild.notebook import Notebook
from gb10.controller.rebuild.patience import Patience
from gb10.controller.rebuild.roles import Roles
from gb10.controller.rebuild.services import Services
from gb10.controller.rebuild.serving import Serving
from gb10.controller.rebuild.tools import Tools


class Parts:
    """The objects that the steps of one node are given. `served`: models are served while the node is away."""

    def __init__(self, target: InventoryHost, tools: Tools, *, served: bool) -> None:
        self.roles = Roles(tools.inventory, target)
        self.history = NodeHistory(tools.journal, target.name)
        self.serving = Serving(self.roles, tools.sight, tools.work, tools.report, tools.person)
        serving = self.serving if served else None
        self.notebook = Notebook(self.roles, self.history, tools.sight, tools.report, serving)
        self.patience = Patience(target.name, tools.report, tools.poll_seconds)
        self.copies = Copies(tools.work, self.patience)
        self.services = Services(self.roles, self.notebook, tools.work, tools.sight)
        self.backups = Backups(self.roles, self.history, tools.sight, tools.work, tools.report, tools.person)
        self.cluster = ClusterReturn(self.roles, self.history, self.notebook, tools.sight)
