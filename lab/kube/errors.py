"""Errors of the Kubernetes API and of the k3s command."""

from __future__ import annotations

from typing import Any

from gb10.lab.kube.objects import Obj


class ApiError(Exception):
    """An error answer: HTTP status, reason and message of a `Status` object."""

    def __init__(self, code: int, reason: str, message: str, **details: Any) -> None:
        super().__init__(message)
        self.code = code
        self.body: Obj = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": reason,
            "details": details,
            "code": code,
        }


class StartError(Exception):
    """A fatal error of a command, which ends with one line in the journal as K3s does."""


def no_such_resource() -> ApiError:
    return ApiError(404, "NotFound", "the server could not find the requested resource")
