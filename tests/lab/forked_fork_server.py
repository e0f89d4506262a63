"""Run in a process that the tests' fork server has made: be a fork server too, for whoever listens on a socket."""

import os
import runpy
import socket
import sys

from gevent.monkey import get_original

# As it was before pyinfra patched it: a fork server must not have an event loop.
control = get_original("socket", "socket")(socket.AF_UNIX, socket.SOCK_STREAM)
control.connect(sys.argv[1])
os.dup2(control.fileno(), 0)
control.close()
runpy.run_module("gb10.controller.fork_server", run_name="__main__", alter_sys=True)
