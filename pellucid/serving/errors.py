"""An error in the words of either API, without a traceback."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from pellucid.core.errors import InputError, PellucidError, UnknownNameError, UpstreamError
from pellucid.serving.engine import BusyError, StoppedError
from pellucid.serving.keys import ForbiddenError, RateError, UnauthorisedError

log = logging.getLogger("pellucid.serving")


class OpenAIErrorBody(BaseModel):
    """What OpenAI's clients read of an error."""

    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIError(BaseModel):
    """An error, as OpenAI's API tells it."""

    error: OpenAIErrorBody


class AnthropicErrorBody(BaseModel):
    """What Anthropic's clients read of an error."""

    type: str
    message: str


class AnthropicError(BaseModel):
    """An error, as Anthropic's API tells it."""

    type: Literal["error"]
    error: AnthropicErrorBody


STATUSES = {
    400: "The request is not one that can be answered; the message says why.",
    401: "No key came, or none that is known.",
    403: "The key does not have the scope.",
    404: "There is nothing of that name.",
    413: "The request is too large.",
    429: "Too much at once; `Retry-After` says when to come back.",
    500: "A defect of the server.",
    503: "The server is shutting down.",
}


def responses(model: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """How a router's errors look, for the OpenAPI document."""
    return {status: {"model": model, "description": text} for status, text in STATUSES.items()}


@dataclass(frozen=True)
class Told:
    """What an error is to whoever asked."""

    status: int
    message: str
    openai_type: str
    anthropic_type: str
    retry_after: int | None = None

    @classmethod
    def of(cls, error: Exception) -> Told:
        """The status and the words for an error; what a defect says is for the log alone."""
        if isinstance(error, StoppedError) and isinstance(error.__cause__, Exception):
            error = error.__cause__  # a defect ended the engine's loop
        if not isinstance(error, PellucidError):
            log.error("A defect.", exc_info=error)
            return cls.defect()
        for kind, (status, openai, anthropic, retry_after) in _WORDS.items():
            if isinstance(error, kind):
                seconds = error.seconds if isinstance(error, RateError) else retry_after
                return cls(status, str(error), openai, anthropic, seconds)
        # Whoever asked can do nothing about it, and it may name paths and addresses of the server's.
        log.error("%s: %s", type(error).__name__, error)
        status = 503 if isinstance(error, UpstreamError) else 500
        told = "A file of the server, or a service it needs, is not as it should be; its log says which."
        return cls(status, told, "server_error", "api_error")

    @classmethod
    def defect(cls) -> Told:
        """What is told of a defect of ours."""
        told = "A defect of the server ended this request; its log says which. Other requests go on."
        return cls(500, told, "server_error", "api_error")

    def openai(self, parameter: str | None = None) -> dict[str, Any]:
        """The body that OpenAI's clients read."""
        error = {"message": self._text, "type": self.openai_type, "param": parameter, "code": None}
        return {"error": error}

    def anthropic(self) -> dict[str, Any]:
        """The body that Anthropic's clients read."""
        return {"type": "error", "error": {"type": self.anthropic_type, "message": self._text}}

    @property
    def _text(self) -> str:
        """What a client wrote may hold half a character of UTF-16, which cannot be sent back."""
        return self.message.encode("utf-8", "replace").decode()

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the answer."""
        if self.status == 401:
            return {"WWW-Authenticate": "Bearer"}
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}


_WORDS: dict[type[PellucidError], tuple[int, str, str, int | None]] = {
    UnauthorisedError: (401, "authentication_error", "authentication_error", None),
    ForbiddenError: (403, "permission_error", "permission_error", None),
    RateError: (429, "rate_limit_error", "rate_limit_error", None),
    BusyError: (429, "rate_limit_error", "rate_limit_error", 2),
    StoppedError: (503, "server_error", "overloaded_error", 5),
    UnknownNameError: (404, "invalid_request_error", "not_found_error", None),
    InputError: (400, "invalid_request_error", "invalid_request_error", None),
}
"""For each kind of error its status, its type in either API, and after how many seconds to come back."""
