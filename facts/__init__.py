"""Read-only facts about a node, each read in one round trip.

A fact raises FactProcessError for a host whose answer it does not understand; other hosts are not affected.
"""
