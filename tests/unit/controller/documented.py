"""The documentation of what `--json` prints: run this file and paste what it prints into docs/status.md."""

from __future__ import annotations

import json
from typing import Any, get_args

from gb10.controller.cluster.status_model import ClusterStatus, Model
from gb10.controller.cluster.validate import Validation


def documentation(model: type[Model]) -> str:
    """A section for a model and for each that its fields are made of."""
    return "\n\n".join(f"### {part.__name__}\n\n{summary(part)}\n\n{fields(part)}" for part in models(model))


def models(model: type[Model]) -> list[type[Model]]:
    """A model and those that its fields are made of, each once."""
    found = [model]
    for info in model.model_fields.values():
        inner = [part for part in walk(info.annotation) if isinstance(part, type) and issubclass(part, Model)]
        found += [more for part in inner for more in models(part)]
    return list(dict.fromkeys(found))


def walk(annotation: Any) -> list[Any]:
    return [annotation, *(part for inner in get_args(annotation) for part in walk(inner))]


def summary(model: type[Model]) -> str:
    """What it is, in one paragraph."""
    return " ".join((model.__doc__ or "").split())


def fields(model: type[Model]) -> str:
    """Its fields as a table."""
    schema = model.model_json_schema()
    lines = ["| field | type | |", "|-|-|-|"]
    for name, entry in schema["properties"].items():
        lines.append(f"| `{name}` | {kind(entry)} | {entry.get('description', '')} |")
    return "\n".join(lines)


def kind(entry: dict[str, Any]) -> str:
    """Given a field of a JSON schema, return its type in words."""
    if "anyOf" in entry:
        return " or ".join(kind(choice) for choice in entry["anyOf"])
    if "$ref" in entry:
        return f"[{entry['$ref'].rpartition('/')[2]}](#{entry['$ref'].rpartition('/')[2].lower()})"
    if entry.get("type") == "array":
        return f"list of {kind(entry['items'])}"
    if entry.get("type") == "object":
        return f"object of {kind(entry['additionalProperties'])}"
    if "enum" in entry:
        return " or ".join(f"`{json.dumps(value)}`" for value in entry["enum"])
    return f"`{json.dumps(entry['const'])}`" if "const" in entry else str(entry["type"])


if __name__ == "__main__":
    for documented in (ClusterStatus, Validation):
        print(f"{documentation(documented)}\n")
