"""Launcher of programs on nodes, values of facts, and their parsers."""
