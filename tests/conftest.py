"""What all tests have in common."""

from __future__ import annotations

import signal

from hypothesis import settings

# How long an example takes says nothing here: the machine is shared with the lab.
settings.register_profile("gb10", deadline=None)
settings.load_profile("gb10")

# A shell lets its background jobs ignore Ctrl-C, and children inherit that; those under test are to be interrupted.
signal.signal(signal.SIGINT, signal.default_int_handler)
