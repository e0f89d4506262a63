"""Read-only facts about a node: one subject a file, one round trip each."""
