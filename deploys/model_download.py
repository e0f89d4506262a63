"""Models taken from the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Sequence

from gb10.group_data.settings import NodeWorkplace
from gb10.operations import models
from gb10.operations.kit.inventory import deploy, read_settings

SECONDS = 24 * 3600  # for one model, over a slow line


@deploy("Download models")
def download_models(names: Sequence[str]) -> None:
    """
    Have models in the Hugging Face cache, from the Hub, as the user who logs in.

    + names: as on the Hub: "org/name", "datasets/org/name"
    """
    if names:
        home = read_settings(NodeWorkplace).huggingface_home
        title = f"Download {len(names)} model{'' if len(names) == 1 else 's'}"
        models.downloaded(name=title, names=list(names), home=home, seconds=SECONDS, _sudo=False)
