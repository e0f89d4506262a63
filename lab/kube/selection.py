"""Label and field selectors of query strings."""

from __future__ import annotations

import re

from gb10.lab.kube.objects import Obj, dig

_SET_TERM = re.compile(r"\s*(\S+)\s+(in|notin)\s+\((.*)\)\s*")
_EQUALITY_TERM = re.compile(r"\s*([^=!\s]+)\s*(==|=|!=)\s*(\S*)\s*")


def match_labels(selector: str | None, labels: dict[str, str]) -> bool:
    """Return True if the labels satisfy every term of a selector such as "a=b,c!=d,e in (f,g),h,!i"."""
    terms = re.split(r",(?![^(]*\))", selector or "")
    return all(_label_term(term, labels) for term in terms)


def _label_term(term: str, labels: dict[str, str]) -> bool:
    if found := _SET_TERM.fullmatch(term):
        allowed = [value.strip() for value in found[3].split(",")]
        return (labels.get(found[1]) in allowed) == (found[2] == "in")
    if found := _EQUALITY_TERM.fullmatch(term):
        return (labels.get(found[1]) == found[3]) == (found[2] != "!=")
    key = term.strip()
    if key.startswith("!"):
        return key[1:] not in labels
    return not key or key in labels


def match_fields(selector: str | None, obj: Obj) -> bool:
    """Return True if the object satisfies a selector such as "spec.nodeName=a,status.phase!=Failed"."""
    for term in filter(None, (selector or "").split(",")):
        found = re.fullmatch(r"([^=!]+)(==|=|!=)(.*)", term)
        if not found:
            return False
        if (_field_text(obj, found[1]) == found[3]) != (found[2] != "!="):
            return False
    return True


def _field_text(obj: Obj, path: str) -> str:
    value = dig(obj, path.split("."))
    if isinstance(value, bool) or (value is None and path == "spec.unschedulable"):
        return "true" if value else "false"
    return "" if value is None else str(value)


def from_match_labels(selector: Obj | None) -> str:
    """Return the matchLabels of a LabelSelector object as a selector text."""
    pairs: dict[str, str] = (selector or {}).get("matchLabels") or {}
    return ",".join(f"{key}={value}" for key, value in pairs.items())
