from __future__ import annotations

import pytest

from gb10.lab.kube.selection import match_fields, match_labels

LABELS = {"app": "web", "tier": "front"}


@pytest.mark.parametrize(
    ("selector", "fits"),
    [
        ("", True),
        (None, True),
        ("app=web", True),
        ("app==web,tier=front", True),
        ("app=web,tier=back", False),
        ("app!=web", False),
        ("zone!=a", True),
        ("app in (web, db)", True),
        ("app in (db)", False),
        ("app notin (db,cache),tier", True),
        ("!zone", True),
        ("!app", False),
        ("zone", False),
    ],
)
def test_label_selectors(selector: str | None, fits: bool) -> None:
    assert match_labels(selector, LABELS) is fits


@pytest.mark.parametrize(
    ("selector", "fits"),
    [
        ("spec.nodeName=a", True),
        ("spec.nodeName=b", False),
        ("spec.nodeName!=b,status.phase=Running", True),
        ("spec.unschedulable=false", True),
        ("spec.none=", True),
        ("spec.hostNetwork=true", True),
        ("nonsense", False),
    ],
)
def test_field_selectors(selector: str, fits: bool) -> None:
    pod = {"spec": {"nodeName": "a", "hostNetwork": True}, "status": {"phase": "Running"}}
    assert match_fields(selector, pod) is fits
