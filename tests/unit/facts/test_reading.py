"""What the controller reads of facts comes without pyinfra."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

from gb10.facts import reading

# They run commands on nodes.
WITH_PYINFRA = {"channels", "launcher"}


def test_values_and_parsers_of_facts_load_no_pyinfra() -> None:
    names = {module.name for module in pkgutil.iter_modules(reading.__path__)}
    assert names > WITH_PYINFRA
    imports = "; ".join(f"import gb10.facts.reading.{name}" for name in sorted(names - WITH_PYINFRA))
    check = f"{imports}; import sys; sys.exit('pyinfra' in sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True)
