"""A copy from node to node: survey, plan, the ways between nodes, the run."""
