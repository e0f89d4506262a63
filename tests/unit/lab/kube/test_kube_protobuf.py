from __future__ import annotations

import pytest

from gb10.lab.kube.errors import ApiError
from gb10.lab.kube.protobuf import decode_body


def field(number: int, content: bytes | str) -> bytes:
    raw = content.encode() if isinstance(content, str) else content
    return bytes([number << 3 | 2, len(raw)]) + raw


def body(kind: str, message: bytes) -> bytes:
    return b"k8s\0" + field(1, field(1, "v1") + field(2, kind)) + field(2, message)


def test_a_secret_is_decoded_with_labels_and_base64_data() -> None:
    meta = field(1, "s") + field(3, "work") + field(11, field(1, "owner") + field(2, "helm"))
    data = field(1, "release") + field(2, b"\x00\xff")
    assert decode_body(body("Secret", field(1, meta) + field(2, data) + field(3, "helm.sh/release.v1"))) == {
        "metadata": {"name": "s", "namespace": "work", "labels": {"owner": "helm"}},
        "data": {"release": "AP8="},
        "type": "helm.sh/release.v1",
    }


def test_delete_options_are_decoded_with_nested_messages() -> None:
    message = bytes([1 << 3, 0x96, 0x01]) + field(2, field(1, "uid-1")) + field(4, "Orphan")
    assert decode_body(body("DeleteOptions", message)) == {
        "gracePeriodSeconds": 150,
        "preconditions": {"uid": "uid-1"},
        "propagationPolicy": "Orphan",
    }


@pytest.mark.parametrize("raw", [b"{}", body("Deployment", b""), b"k8s\0" + bytes([1 << 3 | 5, 0, 0, 0, 0])])
def test_unknown_bodies_are_refused_as_media_type(raw: bytes) -> None:
    with pytest.raises(ApiError) as refused:
        decode_body(raw)
    assert refused.value.code == 415
