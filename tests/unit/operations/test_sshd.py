"""sshd is only ever tightened: nothing that we write permits more than what is there."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from gb10.facts.network import ROOT_LOGINS, SSHD_FILE, Sshd, SshdConfig
from gb10.operations.sshd import drop_in
from tests.unit.facts.reading import answered
from tests.unit.launched import launched

# Prints the first value of each keyword, as `sshd -T` does; it reads drop-ins in the order of their names first.
STAND_IN = rf"""#!/bin/sh
cat {Path(SSHD_FILE).parent}/*.conf /etc/ssh/sshd_config | tr '[:upper:]' '[:lower:]' | grep -v '^#' | awk '
    BEGIN {{ split("port permitrootlogin pubkeyauthentication passwordauthentication " \
                   "kbdinteractiveauthentication", names)
             split("22 prohibit-password yes yes yes", values) }}
    !($1 in seen) {{ seen[$1] = $2 }}
    END {{ for (i in names) print names[i], (names[i] in seen) ? seen[names[i]] : values[i] }}'
"""
needs_mounts = pytest.mark.skipif(
    os.getuid() != 0 or subprocess.run(["unshare", "--mount", "true"], check=False).returncode != 0,
    reason="only root can mount",
)


def settings(folder: Path, **files: str) -> Sshd:
    """Read the facts of an /etc/ssh with these files: `main` is sshd_config, `ours` our drop-in, the rest others'."""
    tools, etc = folder / "tools", folder / "etc"
    shutil.rmtree(tools, ignore_errors=True)
    shutil.rmtree(etc, ignore_errors=True)
    tools.mkdir()
    (etc / "sshd_config.d").mkdir(parents=True)
    (tools / "sshd").write_text(STAND_IN)
    (tools / "sshd").chmod(0o755)
    names = {"main": "sshd_config", "ours": f"sshd_config.d/{Path(SSHD_FILE).name}"}
    for name, text in {"main": "", **files}.items():
        (etc / names.get(name, f"sshd_config.d/{name}.conf")).write_text(text)
    private = ("unshare", "--mount", "sh", "-c", f'mount --bind {etc} /etc/ssh && exec "$@"', "sh")
    done = launched(SshdConfig().command(), tools, private)
    assert done.status == 0, done.others
    found = SshdConfig().process(answered(done.answer))
    assert found is not None
    return found


def written(sshd: Sshd) -> dict[str, str]:
    lines = [line.split(maxsplit=1) for line in drop_in(sshd).splitlines() if not line.startswith("#")]
    return dict(lines)


@needs_mounts
@pytest.mark.parametrize("place", ["main", "zz"])
@pytest.mark.parametrize("value", ["no", "forced-commands-only"])
def test_a_stricter_root_login_of_others_stays(place: str, value: str, tmp_path: Path) -> None:
    for ours in ({}, {"ours": "PermitRootLogin prohibit-password\n"}, {"ours": "PermitRootLogin yes\n"}):
        found = settings(tmp_path, **{place: f"PermitRootLogin {value}\n"}, **ours)
        assert written(found)["PermitRootLogin"] == value


@needs_mounts
def test_a_stricter_root_login_of_ours_stays_too(tmp_path: Path) -> None:
    found = settings(tmp_path, ours="PermitRootLogin no\n", main="PermitRootLogin yes\n")
    assert written(found)["PermitRootLogin"] == "no"


@needs_mounts
@pytest.mark.parametrize("ours", ["", "PubkeyAuthentication yes\n"])
def test_keys_that_others_switched_off_are_not_switched_on(ours: str, tmp_path: Path) -> None:
    found = settings(tmp_path, ours=ours, main="PubkeyAuthentication no\n")
    assert "PubkeyAuthentication" not in written(found)
    assert written(settings(tmp_path, ours=ours))["PubkeyAuthentication"] == "yes"


@pytest.mark.parametrize("value", ROOT_LOGINS)
def test_what_is_written_never_permits_more(value: str) -> None:
    lines = written(Sshd((22,), passwords=True, keys=True, root_login=value))
    assert ROOT_LOGINS.index(lines.pop("PermitRootLogin")) >= ROOT_LOGINS.index(value)
    assert lines.pop("PubkeyAuthentication") == "yes"
    assert set(lines.values()) == {"no"}


def test_root_has_no_password_login_afterwards() -> None:
    found = Sshd((22,), passwords=True, keys=True, root_login="yes")
    assert written(found)["PermitRootLogin"] == "prohibit-password"
