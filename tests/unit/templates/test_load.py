"""Templates can be loaded in advance."""

from __future__ import annotations

from pathlib import Path

from gb10 import templates


def test_every_template_is_compiled_only_once() -> None:
    folder = Path(templates.__file__).parent
    loaded = {str(template.name): template for template in templates.load()}
    assert set(loaded) == {str(path.relative_to(folder)) for path in folder.rglob("*.j2")}
    assert all(again is loaded[str(again.name)] for again in templates.load())
