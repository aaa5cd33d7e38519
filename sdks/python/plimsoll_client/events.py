"""What happens in a fleet, as it happens."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from .client import AuthenticatedClient, Client

# The server sends a heartbeat every 15 seconds: three that are missing mean that it is away.
_SILENCE = 45.0


@dataclass
class Event:
    """`type` is such as `dd:container-updated`, `data` is the JSON that goes with it."""

    type: str
    data: Any


@dataclass
class _Position:
    id: str = ""
    retry: float = 2.0


def follow_events(client: AuthenticatedClient | Client) -> Iterator[Event]:
    """Follows what happens until the caller leaves its loop.

    A connection that ends (a replica is replaced, the network is away) is made again and goes on
    where the last one ended; after `dd:resync-required` that was not possible, so read again what
    you rely on. A refusal, such as that of a wrong token, raises RuntimeError.
    """
    position = _Position()
    http = client.get_httpx_client()
    while True:
        headers = {"Last-Event-ID": position.id} if position.id else {}
        timeout = httpx.Timeout(_SILENCE)
        try:
            with http.stream("GET", "/api/v1/events/ui", headers=headers, timeout=timeout) as answer:
                if answer.status_code == 200:
                    yield from _events(_lines(answer.iter_text()), position)
                elif answer.status_code < 500 and answer.status_code != 429:
                    reason = answer.read().decode(errors="replace")
                    raise RuntimeError(f"{answer.status_code}: {reason}")
        except httpx.TransportError:
            pass  # The network is away.
        time.sleep(position.retry)


def _lines(pieces: Iterator[str]) -> Iterator[str]:
    # httpx's own lines end also at characters that JSON may contain.
    rest = ""
    for piece in pieces:
        *lines, rest = (rest + piece).split("\n")
        for line in lines:
            yield line.removesuffix("\r")


def _events(lines: Iterator[str], position: _Position) -> Iterator[Event]:
    kind = "message"
    data: list[str] = []
    last = position.id
    for line in lines:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            # Only now: of an event that was cut off nothing has been seen.
            position.id = last
            if data:
                yield Event(kind, json.loads("\n".join(data)))
            kind, data = "message", []
        elif field == "event":
            kind = value
        elif field == "data":
            data.append(value)
        elif field == "id":
            last = value
        elif field == "retry" and value.isdigit():
            position.retry = int(value) / 1000
