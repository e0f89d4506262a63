"""Equal node images have the same name in all checkouts."""

from __future__ import annotations

from pathlib import Path

import pytest

from gb10.lab import node_image


def test_the_key_depends_on_the_recipe_but_not_on_bytecode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_image, "package_folder", lambda: tmp_path)
    program = tmp_path / "image" / "files" / "tool.py"
    program.parent.mkdir(parents=True)
    program.write_text("print(1)\n")
    key = node_image.image_key()
    bytecode = program.parent / "__pycache__" / "tool.cpython-311.pyc"
    bytecode.parent.mkdir()
    bytecode.write_bytes(b"of this checkout")
    assert node_image.image_key() == key
    program.write_text("print(2)\n")
    assert node_image.image_key() != key
