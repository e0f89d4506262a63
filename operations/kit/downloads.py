"""Files fetched by the node itself: resumed, retried, and verified before they get their final name."""

from __future__ import annotations

from collections.abc import Mapping

from pyinfra.api import StringCommand

from gb10.operations.kit.scripts import run_script

LONGEST_SECONDS = 3600


def verified_download(
    url: str,
    path: str,
    *,
    mode: str = "755",
    sha256: str | None = None,
    sums_url: str = "",
    name: str = "",
    proxy: Mapping[str, str] | None = None,
) -> StringCommand:
    """
    Given where a file is and what it must be, return the command that fetches it to `path` on the node.

    A pinned `sha256` beats the list at `sums_url`, in which `name` is looked up. The command fails with
    VERSION_UNKNOWN, DOWNLOAD_FAILED, CHECKSUM_MISMATCH or DISK_FULL, and then what stood at `path` still stands there.
    """
    environment = proxy or {}
    variables = {
        "proxy": environment.get("HTTPS_PROXY" if url.startswith("https:") else "HTTP_PROXY", ""),
        "direct": environment.get("NO_PROXY", ""),
    }
    arguments = (url, path, mode, sha256 or "", sums_url, name)
    return run_script("download.sh", *arguments, seconds=LONGEST_SECONDS, variables=variables)
