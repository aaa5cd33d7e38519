from __future__ import annotations

from http import HTTPStatus
from typing import TypeVar, cast

from .models.error import Error
from .types import Response

T = TypeVar("T")


def must(response: Response[Error | T]) -> T:
    """The body of a successful answer, None where it has none; otherwise raises RuntimeError with what Plimsoll says went wrong."""
    if isinstance(response.parsed, Error):
        raise RuntimeError(f"{int(response.status_code)}: {response.parsed.error}")
    if response.parsed is None and response.status_code != HTTPStatus.NO_CONTENT:
        raise RuntimeError(f"{int(response.status_code)}: {response.content.decode(errors='replace')}")
    return cast(T, response.parsed)
