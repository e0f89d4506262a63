"""The rebuild of nodes, and a full wipe."""
