"""Protobuf request bodies: helm and typed clients send a few core kinds this way and accept JSON answers."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

from gb10.lab.kube.errors import ApiError
from gb10.lab.kube.objects import Obj

# A message: field number -> name and type of the value. A dict as type is a nested message.
Schema = dict[int, tuple[str, Any]]

META: Schema = {
    1: ("name", "text"),
    2: ("generateName", "text"),
    3: ("namespace", "text"),
    5: ("uid", "text"),
    6: ("resourceVersion", "text"),
    11: ("labels", "map"),
    12: ("annotations", "map"),
    14: ("finalizers", "list"),
}
KINDS: dict[str, Schema] = {
    "Secret": {
        1: ("metadata", META),
        2: ("data", "bytes map"),
        3: ("type", "text"),
        4: ("stringData", "map"),
        5: ("immutable", "bool"),
    },
    "ConfigMap": {1: ("metadata", META), 2: ("data", "map"), 3: ("binaryData", "bytes map"), 4: ("immutable", "bool")},
    "Namespace": {1: ("metadata", META)},
    "ServiceAccount": {1: ("metadata", META)},
    "DeleteOptions": {
        1: ("gracePeriodSeconds", "int"),
        2: ("preconditions", {1: ("uid", "text"), 2: ("resourceVersion", "text")}),
        4: ("propagationPolicy", "text"),
        5: ("dryRun", "list"),
    },
}
MAGIC = b"k8s\0"


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte, at = raw[at], at + 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at


def fields(raw: bytes) -> Iterator[tuple[int, Any]]:
    """Yield each field number of an encoded message with an int or bytes. Raise ApiError 415 for other types."""
    at = 0
    while at < len(raw):
        tag, at = _varint(raw, at)
        if tag & 7 not in (0, 2):
            raise ApiError(415, "UnsupportedMediaType", f"protobuf wire type {tag & 7} is not supported")
        value, at = _varint(raw, at)
        if tag & 7 == 0:
            yield tag >> 3, value
        else:
            yield tag >> 3, raw[at : at + value]
            at += value


def decode(raw: bytes, schema: Schema) -> Obj:
    """Decode a message to its JSON form. Fields missing in the schema are dropped."""
    result: Obj = {}
    for number, value in fields(raw):
        if number not in schema:
            continue
        field, reader = schema[number]
        if isinstance(reader, dict):
            result[field] = decode(value, reader)
        elif reader in ("map", "bytes map"):
            key, text = _map_entry(value, reader)
            result.setdefault(field, {})[key] = text
        elif reader == "list":
            result.setdefault(field, []).append(value.decode())
        elif reader == "bool":
            result[field] = bool(value)
        elif reader == "int":
            result[field] = value
        elif value:
            result[field] = value.decode()
    return result


def _map_entry(raw: bytes, reader: str) -> tuple[str, str]:
    entry = dict(fields(raw))
    value: bytes = entry.get(2, b"")
    return entry[1].decode(), base64.b64encode(value).decode() if reader == "bytes map" else value.decode()


def decode_body(raw: bytes) -> Obj:
    """Decode a request body in Kubernetes' protobuf envelope. Raise ApiError 415 for an unknown kind."""
    if not raw.startswith(MAGIC):
        raise ApiError(415, "UnsupportedMediaType", "the body is not in Kubernetes' protobuf envelope")
    envelope = dict(fields(raw[len(MAGIC) :]))
    type_meta = {number: value.decode() for number, value in fields(envelope.get(1, b""))}
    kind = type_meta.get(2)
    if kind not in KINDS:
        raise ApiError(415, "UnsupportedMediaType", f"a protobuf body of kind {kind!r} is not supported")
    return decode(envelope.get(2, b""), KINDS[kind])
