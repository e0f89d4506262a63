"""Runs of pyinfra, seen from the controller."""
