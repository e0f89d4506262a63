"""Write the stand-in as one executable file: `python -m gb10.lab.kube.build OUT VERSION`.

The file contains this package under its full name and PyYAML in pure Python. Equal sources and versions give equal
bytes, so that its checksum can be published.
"""

from __future__ import annotations

import hashlib
import shlex
import sys
import zipfile
from pathlib import Path

import yaml

from gb10.lab.kube import paths

# Python skips text before the archive. The most frequent commands run without Python, which would take longer to start
# than the commands themselves.
_HEAD = """#!/bin/sh
case "${{0##*/}} ${{1:-}}" in
"kubectl "*) ;;
*" kubectl") shift ;;
*" --version" | *" -v")
    printf 'k3s version %s (%s)\\ngo version go1.26.1\\n' {version} {commit}
    exit
    ;;
*) exec python3 "$0" "$@" ;;
esac
export KUBECONFIG="${{KUBECONFIG-${{GB10_LAB_ROOT:-}}{kubeconfig}}}"
export GOGC="${{GOGC-800}}" # too short-lived to need garbage collection
exec "${{GB10_LAB_BIN:-/opt/gb10-lab/bin}}/kubectl" "$@"
"""
_LONG_AGO = (1980, 1, 1, 0, 0, 0)
_MAIN = """import sys

sys.dont_write_bytecode = True
from gb10.lab.kube.cli import main

main({version!r})
"""


def _contents(version: str) -> dict[str, bytes]:
    """Return the files of the archive by name."""
    package, library = Path(__file__).parent, Path(yaml.__file__).parent
    files = {f"gb10/lab/kube/{path.name}": path.read_bytes() for path in package.glob("*.py") if path.stem != "build"}
    files |= {f"yaml/{path.name}": path.read_bytes() for path in library.glob("*.py")}
    # In the archive, gb10 and gb10.lab are regular packages: zipimport needs directory entries for namespace packages.
    return files | {
        "gb10/__init__.py": b"",
        "gb10/lab/__init__.py": b"",
        "__main__.py": _MAIN.format(version=version).encode(),
    }


def build_k3s(path: Path, version: str) -> None:
    """Write the executable to `path` or replace it. `version` is a K3s version such as v1.36.4+k3s1."""
    new = path.with_name(path.name + ".new")
    commit = hashlib.sha256(version.encode()).hexdigest()[:8]
    head = _HEAD.format(version=shlex.quote(version), commit=commit, kubeconfig=paths.KUBECONFIG)
    with new.open("wb") as file:
        file.write(head.encode())
        # Stored and not compressed, so that the bytes do not depend on the version of zlib.
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name, content in sorted(_contents(version).items()):
                entry = zipfile.ZipInfo(name, _LONG_AGO)
                entry.external_attr = 0o644 << 16
                archive.writestr(entry, content)
    new.chmod(0o755)
    new.rename(path)


if __name__ == "__main__":
    build_k3s(Path(sys.argv[1]), sys.argv[2])
