"""The sender of a copy. It runs on the source."""
