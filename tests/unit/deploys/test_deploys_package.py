"""The names that gb10.deploys offers: deploys, whatever was imported before, and nothing that is not asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

from gb10 import deploys


def python(*lines: str) -> str:
    """What a new interpreter prints: in this one all is imported already."""
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("first", ["", "import gb10.deploys.backup, gb10.deploys.cluster, gb10.deploys.k3s"])
def test_each_name_is_a_deploy_and_never_the_module_of_that_name(first: str) -> None:
    strange = "print([name for name in d.__all__ if not hasattr(getattr(d, name), 'deploy_name')])"
    assert python(first, "import gb10.deploys as d", strange) == "[]"


def test_a_module_can_be_imported_from_before_the_deploy_of_its_name_is_asked_for() -> None:
    module = "from gb10.deploys.cluster import cluster as one"
    assert python(module, "from gb10.deploys import cluster as other", "print(one is other)") == "True"


def test_one_deploy_does_not_wait_for_the_libraries_of_another() -> None:
    loaded = "print('gb10.deploys.backup' in sys.modules)"
    assert python("import sys", "from gb10.deploys import lock_nodes", loaded) == "False"
    assert python("import sys", "from gb10.deploys import backup", loaded) == "True"


def test_what_is_no_deploy_is_an_error_that_names_it() -> None:
    with pytest.raises(AttributeError, match=r"gb10\.deploys.*no_such_deploy"):
        getattr(deploys, "no_such_deploy")  # noqa: B009 - the name is the point
