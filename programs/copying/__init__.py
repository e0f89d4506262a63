"""Both ends of a copy from node to node."""
