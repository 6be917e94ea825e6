"""Hears from the cloud that this machine will be taken away: asks its metadata service, for as long as the agent runs.

Started by `server.py` where node.json names a cloud with such notices. What is heard is told once: to the head, which
asks its nodes and keeps it among its events, and to the tasks of this node, as a file. No task is ended by it. A
service that is absent is asked ever more rarely.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any, Awaitable, Callable, Dict, NamedTuple, Optional, Set, Tuple

from .bounds import within

FILE = os.path.join(".sky", "notice.json")
_ANSWER_LIMIT = 1 << 14
_ANSWER_WITHIN = 5.0
#: Seconds between two questions to a service that answers, and the longest to one that does not.
_EVERY, _RARELY = 5.0, 300.0
_TOKEN_S = 21600
#: Seconds for which Google's service holds a question until the answer changes, and those that a machine has left then.
_HELD_S, _GOOGLE_LEAVES_S = 60, 30.0


class Notice(NamedTuple):
    """What was announced, when, and when it will happen (None: unknown); Unix seconds.

    `what` is `terminate`, `stop` or `hibernate`, or `rebalance` for a likely end without a date; `end` is the server's
    own word that it will end what runs here.
    """

    what: str
    at: float
    deadline: Optional[float]


Tell = Callable[[Notice], Awaitable[None]]


class Absent(Exception):
    """The service does not answer as it should."""


async def get(
    url: str, path: str, headers: Dict[str, str], method: str = "GET", wait: float = _ANSWER_WITHIN
) -> Tuple[int, Dict[str, str], str]:
    """One question: status, headers by their names in small letters, and the text. Raises Absent."""
    host, port = _split(url)
    lines = ["%s %s HTTP/1.1" % (method, path), "Host: %s" % host, "Connection: close", "Content-Length: 0"]
    lines += ["%s: %s" % pair for pair in headers.items()]
    try:
        opening = asyncio.open_connection(host, port, limit=_ANSWER_LIMIT)
        reader, writer = await within(_ANSWER_WITHIN, opening)
        try:
            writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("ascii"))
            return _parse(await within(wait, _read(reader)))
        finally:
            writer.transport.abort()
    except (OSError, ValueError, asyncio.TimeoutError) as error:
        raise Absent(str(error) or type(error).__name__) from None


async def _read(reader: asyncio.StreamReader) -> bytes:
    data = b""
    while len(data) < _ANSWER_LIMIT:
        piece = await reader.read(_ANSWER_LIMIT - len(data))
        if not piece:
            return data
        data += piece
    raise ValueError("the answer is longer than %d bytes" % _ANSWER_LIMIT)


def _parse(data: bytes) -> Tuple[int, Dict[str, str], str]:
    head, found, body = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    first = re.match(r"HTTP/1\.[01] (\d{3})\b", lines[0])
    if not found or first is None:
        raise ValueError("no answer of HTTP")
    pairs = (line.partition(":") for line in lines[1:])
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = _joined(body)
    return int(first.group(1)), headers, body.decode("utf-8", "replace").strip()


def _joined(body: bytes) -> bytes:
    out = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        count = int(size.split(b";")[0], 16)
        if count <= 0:
            break
        out, body = out + rest[:count], rest[count + 2 :]
    return out


def _split(url: str) -> Tuple[str, int]:
    found = re.match(r"http://([A-Za-z0-9.-]+)(?::(\d{1,5}))?/?\Z", url)
    if found is None:
        raise Absent("the metadata service at %r cannot be asked" % url[:100])
    return found.group(1), int(found.group(2) or 80)


class Amazon:
    """EC2's service, version 2: a token first, then what it knows of this machine's end."""

    def __init__(self, url: str, clock: Callable[[], float]) -> None:
        self._url = url
        self._clock = clock
        self._token: Optional[str] = None

    async def next(self) -> Optional[Notice]:
        """What is announced now."""
        action = await self._ask("spot/instance-action")
        if action is not None:
            what = action.get("action")
            known = what if what in ("terminate", "stop", "hibernate") else "terminate"
            return Notice(known, self._clock(), _moment(action.get("time")))
        advice = await self._ask("events/recommendations/rebalance")
        if advice is not None:
            return Notice("rebalance", _moment(advice.get("noticeTime")) or self._clock(), None)
        return None

    async def _ask(self, path: str) -> Optional[Dict[str, Any]]:
        if self._token is None:
            wanted = {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_S)}
            status, _, self._token = await get(self._url, "/latest/api/token", wanted, "PUT")
            if status != 200 or not re.match(r"[\x21-\x7e]{1,1000}\Z", self._token):
                self._token = None
                raise Absent("no token: status %d" % status)
        asked = {"X-aws-ec2-metadata-token": self._token}
        status, _, text = await get(self._url, "/latest/meta-data/" + path, asked)
        if status == 401:  # the token is too old
            self._token = None
        if status not in (200, 404):
            raise Absent("status %d" % status)
        return _record(text) if status == 200 else None


class Google:
    """Compute Engine's service, which holds the question until the answer changes."""

    def __init__(self, url: str, clock: Callable[[], float]) -> None:
        self._url = url
        self._clock = clock
        self._tag = ""

    async def next(self) -> Optional[Notice]:
        """What is announced now, or within a minute."""
        path, wait = "/computeMetadata/v1/instance/preempted", _ANSWER_WITHIN
        if self._tag:
            path += "?wait_for_change=true&timeout_sec=%d&last_etag=%s" % (_HELD_S, self._tag)
            wait += _HELD_S
        status, headers, text = await get(self._url, path, {"Metadata-Flavor": "Google"}, wait=wait)
        if status != 200 or headers.get("metadata-flavor") != "Google":
            raise Absent("status %d" % status)
        tag = headers.get("etag", "")
        self._tag = tag if re.match(r"[A-Za-z0-9]{1,64}\Z", tag) else ""
        now = self._clock()
        return Notice("terminate", now, now + _GOOGLE_LEAVES_S) if text == "TRUE" else None

    @property
    def held(self) -> bool:
        """Whether the next question will be held: it may follow at once."""
        return bool(self._tag)


async def watch(cloud: str, url: str, clock: Callable[[], float], tell: Tell, every: float = _EVERY) -> None:
    """Ask for as long as the agent runs; each notice is told once. Returns only by being cancelled."""
    service = Amazon(url, clock) if cloud == "aws" else Google(url, clock)
    told: Set[str] = set()
    pause = every
    while True:
        try:
            notice = await service.next()
        except Absent:
            pause = min(pause * 2, _RARELY)
        else:
            pause = every
            if notice is not None and notice.what not in told:
                told.add(notice.what)
                await tell(notice)
        # Held questions come one after the other, but not in a row of answers that come at once.
        await asyncio.sleep(pause if not getattr(service, "held", False) else min(pause, 1.0))


class Note:
    """The file for this node's tasks. One that an earlier start of the machine left is gone with the first look."""

    def __init__(self, home: str, boot_id: str) -> None:
        self._path = os.path.join(home, FILE)
        self._boot_id = boot_id
        with suppress(OSError, ValueError):
            with open(self._path, encoding="utf-8") as file:
                left = json.load(file)
            if not isinstance(left, dict) or left.get("boot_id") != boot_id:
                os.unlink(self._path)

    def write(self, notice: Notice) -> None:
        """Put a notice there, whole or not at all."""
        os.makedirs(os.path.dirname(self._path), exist_ok=True)
        with open(self._path + ".new", "w", encoding="utf-8") as file:
            json.dump(dict(notice._asdict(), boot_id=self._boot_id), file)
        os.replace(self._path + ".new", self._path)


def _record(text: str) -> Dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Absent("an answer that is no record")
    return found


def _moment(value: Any) -> Optional[float]:
    """Unix seconds of `2026-01-02T03:04:05Z`."""
    if not isinstance(value, str):
        return None
    try:
        return datetime.strptime(value[:19], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc).timestamp()
    except ValueError:
        return None
