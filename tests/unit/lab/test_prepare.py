"""scripts/prepare installs packages on a developer's machine, and starts or enables no service of theirs."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not shutil.which("systemctl"), reason="enables units")

SCRIPT = Path(__file__).parents[3] / "scripts/prepare"
POLICY = "usr/sbin/policy-rc.d"
UNIT, WANTS = "lib/systemd/system/docker.service", "etc/systemd/system/multi-user.target.wants/docker.service"
# What the packages do: ask the policy as invoke-rc.d does, install the unit, enable it.
INSTALL = f"""
install() {{
    if [ ! -e $ROOT/{POLICY} ] || sh $ROOT/{POLICY}; then touch $ROOT/started; fi
    printf '[Install]\\nWantedBy=multi-user.target\\n' >$ROOT/{UNIT}
    systemctl --quiet --root=$ROOT enable docker.service
    touch $ROOT/installed
    $after
}}
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for folder in ("usr/sbin", "lib/systemd/system", "usr/lib/systemd/system", "etc/systemd/system"):
        (tmp_path / folder).mkdir(parents=True)
    return tmp_path


def started(root: Path, after: str = "true") -> subprocess.Popen[bytes]:
    """Start the installation of a package with a service; `after` is its last command."""
    functions = SCRIPT.read_text().partition("\ncase ${1:-} in")[0].replace('cd "$(dirname "$0")/.."', "")
    script = f"{functions}\n{INSTALL}\nwithout_services install"
    return subprocess.Popen(["sh", "-c", script], env={"PATH": "/usr/bin:/bin", "ROOT": str(root), "after": after})


def test_an_installed_engine_is_neither_started_nor_enabled(root: Path) -> None:
    assert started(root).wait() == 0
    assert (root / UNIT).exists()
    assert not (root / "started").exists()
    assert not (root / WANTS).is_symlink()
    assert not (root / POLICY).exists()


def test_a_failed_installation_leaves_no_policy(root: Path) -> None:
    assert started(root, "return 100").wait() == 100
    assert not (root / POLICY).exists()
    assert not (root / WANTS).is_symlink()


def test_an_interrupted_installation_leaves_no_policy(root: Path) -> None:
    child = started(root, "sleep 1")
    deadline = time.monotonic() + 20
    while not (root / "installed").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert (root / POLICY).exists()
    child.send_signal(signal.SIGTERM)
    assert child.wait() == 130
    assert not (root / POLICY).exists()


def test_the_policy_of_the_machine_stays(root: Path) -> None:
    (root / POLICY).write_text("#!/bin/sh\nexit 104\n")
    assert started(root).wait() == 0
    assert (root / POLICY).read_text() == "#!/bin/sh\nexit 104\n"
    assert not (root / "started").exists()


def test_an_engine_that_was_there_stays_enabled(root: Path) -> None:
    (root / UNIT).write_text("[Install]\nWantedBy=multi-user.target\n")
    assert started(root).wait() == 0
    assert (root / WANTS).is_symlink()
