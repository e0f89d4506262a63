"""A block of lines of ours in a file whose other lines stay."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from pyinfra.api import StringCommand, operation
from pyinfra.context import host, state

from gb10.facts.file import TextFile
from gb10.operations.file import replace_file, show_diff
from gb10.operations.kit.failures import guarded, known

BEGIN, END = "# BEGIN gb10", "# END gb10"


@operation()
@guarded
def text_block(path: str, lines: Sequence[str]) -> Generator[StringCommand, None, None]:
    """
    Keep a block of lines in a file; its other lines stay.

    + path: absolute path on the node
    + lines: the lines between the marks
    """
    file = known(TextFile, path=path)
    before = file.content if file else ""
    after = with_block(before, lines)
    if file and before == after:
        host.noop(f"{path} has the lines")
        return
    if state.config.DIFF:
        show_diff(path, before, after)
    mode, owner, group = (file.mode, file.owner, file.group) if file else ("644", "root", "root")
    yield replace_file(path, after, mode, owner, group)


def with_block(text: str, lines: Sequence[str]) -> str:
    """Given a text, return it with these lines between the marks: where they stood before, or at its end."""
    block = "".join(f"{line}\n" for line in (BEGIN, *lines, END))
    before, begin, rest = text.partition(f"{BEGIN}\n")
    _, end, after = rest.partition(f"{END}\n")
    if begin and end:
        return f"{before}{block}{after}"
    # With one of the marks missing, nobody knows which lines are ours: only the mark goes.
    kept = "".join(f"{line}\n" for line in text.splitlines() if line not in (BEGIN, END))
    return f"{kept}{block}"
