"""Run in a process that the tests' fork server has made: be a fork server too, for the one who connects to a socket."""

import os
import runpy
import socket
import sys

from gevent.monkey import get_original  # type: ignore[import-untyped]

# As it was before pyinfra patched it, and never a socket out of accept(): a fork server must not have an event loop.
listener = get_original("socket", "socket")(socket.AF_UNIX, socket.SOCK_STREAM)
listener.bind(sys.argv[1])
listener.listen(1)
print("listening", file=sys.stderr, flush=True)
control, _ = listener._accept()
os.dup2(control, 0)
os.close(control)
listener.close()
runpy.run_module("gb10.controller.run.fork_server", run_name="__main__", alter_sys=True)
