"""The pull of an image: what Docker is asked for, and which digest it names."""

from __future__ import annotations

from gb10.operations.kit.pins import Pin
from gb10.operations.kit.pulls import DIGEST, _pull

TAG = "nvcr.io/nvidia/cuda:13.0.1-base-ubuntu24.04"
HEX = "3f1d3a7c9e" + "0" * 54
PRINTED = f"""\
13.0.1-base-ubuntu24.04: Pulling from nvidia/cuda
76249c7cd503: Pull complete
Digest: sha256:{HEX}
Status: Downloaded newer image for {TAG}
{TAG}
"""


def test_an_image_without_a_pin_is_pulled_by_its_tag() -> None:
    command = _pull(TAG, Pin(f"image/{TAG}", TAG, None, is_locked=False), 600)
    assert command.get_raw_value() == f"timeout 600 docker pull {TAG} 2>&1"
    assert DIGEST.findall(PRINTED) == [HEX]


def test_a_pinned_image_is_pulled_by_digest_and_gets_its_tag() -> None:
    pinned = f"nvcr.io/nvidia/cuda@sha256:{HEX}"
    command = _pull(TAG, Pin(f"image/{TAG}", TAG, HEX, is_locked=True), 600)
    assert command.get_raw_value() == f"{{ timeout 600 docker pull {pinned} && docker tag {pinned} {TAG}; }} 2>&1"
