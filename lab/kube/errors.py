"""Errors as the Kubernetes API answers them."""

from __future__ import annotations

from typing import Any

from gb10.lab.kube.objects import Obj


class ApiError(Exception):
    """An answer other than success: HTTP status, reason and message of a `Status` object."""

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
    """Why a command cannot go on: it ends with one line in the journal, as K3s' fatal errors do."""


def no_such_resource() -> ApiError:
    return ApiError(404, "NotFound", "the server could not find the requested resource")
