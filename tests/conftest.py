"""What all tests have in common."""

from __future__ import annotations

from hypothesis import settings

# How long an example takes says nothing here: the machine is shared with the lab.
settings.register_profile("gb10", deadline=None)
settings.load_profile("gb10")
