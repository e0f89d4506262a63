"""Unpacks archives as a restore does: with the attributes of their members."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator

from gb10.programs.archive.files import apply_attributes, attributes
from gb10.programs.archive.manifest import Manifest
from gb10.programs.archive.reading import compare, unpack


def unpack_with_attributes(content: bytes, folder: str) -> Manifest:
    """Unpack an archive and give its members their attributes; return its manifest."""
    manifest = unpack(io.BytesIO(content), folder)
    for member in sorted(manifest.members, key=lambda member: member.path, reverse=True):
        apply_attributes(os.path.join(folder, member.path), member)
    return manifest


def differences(folder: str, manifest: Manifest) -> Iterator[str]:
    """Yield the differences between a folder and a manifest, in content and attributes."""
    yield from compare(folder, manifest)
    for member in manifest.members:
        place = os.path.join(folder, member.path)
        found = attributes(place, os.lstat(place))
        pairs = [("time", found["mtime"], member.mtime), ("extended attributes", found["xattrs"], member.xattrs)]
        pairs += [("mode", found["mode"], member.mode)] if member.type != "l" else []
        owner = (found["owner"].uid, found["owner"].gid)
        pairs += [("owner", owner, (member.owner.uid, member.owner.gid))] if os.geteuid() == 0 else []
        yield from (f"{member.path} has another {what}" for what, one, other in pairs if one != other)
