"""Files that a broken line would make fatal: checked by the tool that reads them before they are in their place."""

from __future__ import annotations

from pyinfra.api import StringCommand
from pyinfra.api.command import QuoteString


def write_checked(path: str, content: str, mode: str, check: str, code: str) -> StringCommand:
    """Given a file's next text, return the command that writes it beside the file and has it checked.

    It waits at `<path>.new`, a name that sudo and netplan ignore.

    + check: command that is given the written file as its last argument
    + code: of the error where the check fails; nothing is left then
    """
    refuse = f'rm -f "$new"; echo "gb10: {code}: $(echo $said | tail -c 300): $path stays as it was" >&2; exit 1'
    return StringCommand(
        "path=",
        QuoteString(path),
        '; new="$path.new"; umask 022; mkdir -p "${path%/*}" && umask 077 && cat > "$new" && chown root:root "$new" ',
        f'&& chmod {mode} "$new" || exit 1; said=$({check} "$new" 2>&1) || {{ {refuse}; }}; sync "$new"',
        _separator="",
        _stdin=content,
    )


def replace_checked(path: str, content: str, mode: str, check: str, code: str) -> StringCommand:
    """Given a file's next text, return the command that checks it as `write_checked` does, and puts it in its place."""
    return StringCommand(write_checked(path, content, mode, check, code), '&& mv -f "$new" "$path"', _stdin=content)
