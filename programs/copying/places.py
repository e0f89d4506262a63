"""Names of what a copy keeps in the target folder until it is complete."""

from __future__ import annotations

WORKSHOP = ".gb10-copy"  # in the target folder
SMALL = "tmp"  # in the workshop: for small files and for those of rsync
PARTIAL = ".gb10-partial"  # of rsync over ssh: beside the file
