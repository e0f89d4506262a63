"""Models taken from the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Sequence

from pyinfra.api import deploy

from gb10.deploys.settings import value
from gb10.operations import model_download

SECONDS = 24 * 3600  # for one model, over a slow line


@deploy("Download models")
def download_models(names: Sequence[str]) -> None:
    """
    Have models in the Hugging Face cache, from the Hub, as the user who logs in.

    + names: as on the Hub: "org/name", "datasets/org/name"
    """
    if names:
        home = str(value("node_huggingface_home"))
        title = f"Download {len(names)} model{'' if len(names) == 1 else 's'}"
        model_download.downloaded(name=title, names=list(names), home=home, seconds=SECONDS, _sudo=False)
