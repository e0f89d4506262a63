"""Everything that runs on a node: Python of the standard library, and shell."""
