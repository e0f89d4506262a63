"""Changes that may cut the way to a node: tried, confirmed over a new connection, or taken back by the node itself.

The contract: the node gets back to where it was without any help, also when this controller is killed or the
connection is lost. Actions whose change must not outlive a power failure either keep it below /run until it is kept.
"""

from __future__ import annotations

from collections.abc import Generator

from pyinfra.api import FunctionCommand, Host, State, StringCommand
from pyinfra.api.exceptions import ConnectError

from gb10.operations.kit.failures import say
from gb10.operations.kit.login import NewLogin
from gb10.operations.kit.scripts import run_script, script
from gb10.operations.kit.waiting import wait_until

FOLDER = "/run/gb10-trial"
POLL_SECONDS = 0.5
ENDS = ("kept", "failed", "undone")
LOOK = """cd {folder} || exit
read -r state <state || exit
[ "$state" != applied ] || touch confirmed
echo "$state"
grep -v '^$' output | tail -n 1"""
UNDO_SECONDS = 100  # how long the node may take to take a change back


def trial(
    name: str, action: str, content: str, seconds: int, code: str, keys_only: bool = False, values: str = ""
) -> Generator[StringCommand | FunctionCommand, None, None]:
    """
    Yield the commands of a change that takes itself back.

    + name: of the trial, one word
    + action: name of a script of gb10.templates that can apply, undo and keep; see programs/shell/trial.sh
    + content: what it finds in the file `wanted` beside it
    + seconds: how long the node waits for the confirmation before it takes the change back
    + code: of the error that tells it was taken back
    + keys_only: the new connection must be opened by a key
    + values: what it finds in the file `values` beside it
    """
    files = {"action": script(action), "wanted": content, "values": values}
    yield run_script("trial.sh", name, str(seconds), seconds=2 * seconds + UNDO_SECONDS, variables=files, outlives=True)
    yield FunctionCommand(_confirm, (name, seconds, code, keys_only), {})


def _confirm(state: State, host: Host, name: str, seconds: int, code: str, keys_only: bool) -> bool:
    """Log in anew and confirm. Return True if the change was kept, else report what happened."""
    folder, reason = f"{FOLDER}/{name}", ""

    def look() -> tuple[str, str]:
        nonlocal reason
        try:
            login = NewLogin(state, host, keys_only)
        except ConnectError as error:
            reason = str(error)
            return "", ""
        try:
            return _confirmed(login, folder)
        finally:
            login.close()

    word, output = wait_until(
        look, lambda found: found[0] in ENDS, seconds=seconds + UNDO_SECONDS, poll_seconds=POLL_SECONDS
    )
    if word == "failed":
        say(host, code, f"{host.name}: {output}: everything is as it was")
    elif word == "undone":
        say(host, code, f"{host.name} let nobody in with it ({reason}) and went back to what it had before")
    elif word != "kept":
        say(host, code, f"{host.name} does not let us in any more: {reason}")
    return word == "kept"


def _confirmed(login: NewLogin, folder: str) -> tuple[str, str]:
    """Confirm a change that is applied. Return its state, and once it has ended the last line that it printed."""
    done, said = login.run(LOOK.format(folder=folder))
    word, _, output = said.partition("\n") if done else ("", "", "")
    return word, output.strip()
