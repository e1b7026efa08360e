"""An error in the words of either API, without a traceback."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pellucid.core.errors import InputError, PellucidError
from pellucid.serving.engine import BusyError, StoppedError


@dataclass(frozen=True)
class Told:
    """What an error is to whoever asked."""

    status: int
    message: str
    openai_type: str
    anthropic_type: str
    retry_after: int | None = None

    @classmethod
    def of(cls, error: PellucidError) -> Told:
        """The status and the words for an error that was raised on purpose."""
        if isinstance(error, BusyError):
            return cls(429, str(error), "rate_limit_error", "rate_limit_error", 2)
        if isinstance(error, StoppedError):
            return cls(503, str(error), "server_error", "overloaded_error", 5)
        if isinstance(error, InputError):
            return cls(400, str(error), "invalid_request_error", "invalid_request_error")
        return cls(500, str(error), "server_error", "api_error")

    def openai(self, parameter: str | None = None) -> dict[str, Any]:
        """The body that OpenAI's clients read."""
        error = {"message": self.message, "type": self.openai_type, "param": parameter, "code": None}
        return {"error": error}

    def anthropic(self) -> dict[str, Any]:
        """The body that Anthropic's clients read."""
        return {"type": "error", "error": {"type": self.anthropic_type, "message": self.message}}

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the answer."""
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
