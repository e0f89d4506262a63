"""Names in the target folder, used by a copy until it is complete."""

from __future__ import annotations

STAGING = ".gb10-copy"  # folder in the target folder for incomplete files
SMALL = "tmp"  # folder in it for small files and for those of rsync
PARTIAL = ".gb10-partial"  # folder beside a file that rsync sends over ssh
