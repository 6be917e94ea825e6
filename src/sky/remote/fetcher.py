"""Runs on a node: brings a file from the web to a path, whole or not at all, and only if it is another one than before.

Sent as text by `fetch.py` to any Python from 3.8 on; nothing but the standard library. What it is asked comes by the
environment, since a URL may carry a password or a signature and lists of processes are public. Its last line is JSON:
`how` (fetched, same) and `bytes`, or `error`.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import shutil
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import IO

_PIECE = 1 << 20
#: Seconds without a byte after which a server counts as gone, and how often and how long apart it is tried.
_SILENT_S = 60.0
_PAUSES = (1.0, 3.0)
#: Bytes that are left free on the disk.
_SPARE = 256 << 20
#: A server's mark of a version is kept only up to this length.
_LONGEST_MARK = 1024
_TEMPORARY = (408, 425, 429, 500, 502, 503, 504)


class Failed(Exception):
    """It cannot be had; `again` if another try may help."""

    def __init__(self, reason: str, again: bool = False) -> None:
        super().__init__(reason)
        self.again = again


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follow to the web alone, and never from a protected connection to an open one."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]
        scheme = urllib.parse.urlsplit(newurl).scheme
        if scheme not in ("http", "https") or (req.type == "https" and scheme == "http"):
            raise Failed(f"it redirects to {shown(newurl)}, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def shown(url: str) -> str:
    """A URL as it may be told: without a login, and without what follows the path."""
    parts = urllib.parse.urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}" + ("?..." if parts.query else "")


def place(destination: str, url: str, home: Path) -> Path:
    """The path of the file: below the home unless it is absolute; a folder is given by a `/` at its end."""
    path = home / (destination[2:] if destination.startswith("~/") else destination)
    if ".." in path.parts:
        raise Failed(f"the destination {destination!r} leads out of its folder")
    if destination.endswith("/"):
        name = urllib.parse.unquote(urllib.parse.urlsplit(url).path.rpartition("/")[2])
        if not name or name in (".", "..") or "/" in name or "\0" in name:
            raise Failed("the URL ends in no file name: give the destination one, in place of the / at its end")
        path /= name
    elif path.is_dir():
        raise Failed(f"{destination} is a folder: end the destination in / to put the file into it")
    return path


def request_of(url: str) -> urllib.request.Request:
    """The question; a login in the URL goes along as a header, and to no other host."""
    parts = urllib.parse.urlsplit(url)
    login, at, host = parts.netloc.rpartition("@")
    clean = urllib.parse.urlunsplit((parts.scheme, host, urllib.parse.quote(parts.path, safe="/%:@!$&'()*+,;=~-._"),
                                     parts.query, ""))  # fmt: skip
    asked = urllib.request.Request(clean, headers={"User-Agent": "sky-fetch"})  # noqa: S310 - the web alone, see `main`
    if at:
        word = base64.b64encode(urllib.parse.unquote(login).encode()).decode()
        asked.add_unredirected_header("Authorization", "Basic " + word)
    return asked


class Note:
    """What was fetched before, beside the homes of all else that is ours: `~/.sky/fetched/<hash>.json`."""

    def __init__(self, home: Path, url: str, path: Path) -> None:
        mark = hashlib.sha256(f"{url}\0{path}".encode("utf-8", "surrogateescape")).hexdigest()[:32]
        self.file = home / ".sky" / "fetched" / f"{mark}.json"
        self.path = path
        try:
            known = json.loads(self.file.read_text(encoding="utf-8"))
            facts = path.stat()
            untouched = [facts.st_size, facts.st_mtime_ns] == known["facts"]
            self.etag, self.modified = str(known["etag"]), str(known["modified"])
        except (OSError, ValueError, KeyError, TypeError):
            untouched, self.etag, self.modified = False, "", ""
        if not untouched:
            self.etag = self.modified = ""
        self.size = facts.st_size if untouched else -1

    def ask(self, asked: urllib.request.Request) -> None:
        """Say which version is here."""
        if self.etag:
            asked.add_header("If-None-Match", self.etag)
        elif self.modified:
            asked.add_header("If-Modified-Since", self.modified)

    def is_of(self, headers: http.client.HTTPMessage) -> bool:
        """Whether an answer is the version that is here, from a server that compares none itself."""
        if headers.get("Content-Length") != str(self.size):
            return False
        if self.etag:
            return headers.get("ETag") == self.etag
        return bool(self.modified) and headers.get("Last-Modified") == self.modified

    def keep(self, headers: http.client.HTTPMessage) -> None:
        """Remember what is here now; without a mark of its version it is fetched anew each time."""
        etag, modified = headers.get("ETag") or "", headers.get("Last-Modified") or ""
        facts = self.path.stat()
        known = {
            "etag": etag if len(etag) <= _LONGEST_MARK else "",
            "modified": modified if len(modified) <= _LONGEST_MARK else "",
            "facts": [facts.st_size, facts.st_mtime_ns],
        }
        self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = self.file.with_suffix(f".{os.getpid()}")
        fresh.write_text(json.dumps(known), encoding="utf-8")
        fresh.replace(self.file)


def fetch(url: str, path: Path, home: Path, deadline: float) -> dict[str, object]:
    """Bring it; `deadline` as `time.monotonic`. Raises Failed."""
    note = Note(home, url, path)
    asked = request_of(url)
    note.ask(asked)
    opener = urllib.request.build_opener(_Redirects())
    try:
        with opener.open(asked, timeout=_SILENT_S) as answer:
            if note.is_of(answer.headers):
                return {"how": "same", "bytes": note.size}
            count = _take(answer, path, deadline)
            note.keep(answer.headers)
            return {"how": "fetched", "bytes": count}
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 304 and note.size >= 0:
                return {"how": "same", "bytes": note.size}
            raise Failed(f"HTTP status {error.code} ({str(error.reason)[:200]})", error.code in _TEMPORARY) from None
    except urllib.error.URLError as error:
        wrong = "certificate" in str(error.reason).lower()
        raise Failed(str(error.reason)[:500], not wrong) from None
    except http.client.InvalidURL:
        raise Failed("it is no URL") from None
    except http.client.HTTPException as error:
        raise Failed(f"the answer is not HTTP ({type(error).__name__})", True) from None


def _take(answer: http.client.HTTPResponse, path: Path, deadline: float) -> int:
    """Write the answer beside the path, then put it in place."""
    told = answer.headers.get("Content-Length")
    wanted = int(told) if told is not None and told.isdigit() else None
    folder = path.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".sky-fetch-", dir=folder)
    except OSError as error:
        raise Failed(f"{folder} cannot be written: {error.strerror}") from None
    fresh = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            count = _copy(answer, file, folder, wanted, deadline)
        mask = os.umask(0)
        os.umask(mask)
        fresh.chmod(0o666 & ~mask)
        fresh.replace(path)
    except OSError as error:
        raise Failed(f"{path} cannot be written: {error.strerror or error}") from None
    finally:
        if fresh.exists():
            fresh.unlink()
    return count


def _copy(answer: http.client.HTTPResponse, file: IO[bytes], folder: Path, wanted: int | None, deadline: float) -> int:
    """The bytes of the answer, all of them, as far as the disk has room."""
    count = 0
    _room(folder, wanted or 0)
    while True:
        try:
            piece = answer.read(_PIECE)
        except (OSError, http.client.HTTPException) as error:
            raise Failed(f"the connection broke after {count} bytes ({error or type(error).__name__})", True) from None
        if not piece:
            break
        count += len(piece)
        _room(folder, len(piece))
        if time.monotonic() > deadline:
            raise Failed(f"it took too long: {count} bytes had come")
        file.write(piece)
    if wanted is not None and count != wanted:
        raise Failed(f"the connection broke after {count} of {wanted} bytes", True)
    return count


def _room(folder: Path, size: int) -> None:
    if shutil.disk_usage(folder).free < size + _SPARE:
        raise Failed(f"the disk of {folder} has no room for it: {_SPARE >> 20} MB are to stay free")


def main() -> int:
    """Do what the environment asks, trying again where that may help."""
    url, home = os.environ.pop("FETCH_URL"), Path(os.environ["HOME"])
    deadline = time.monotonic() + float(os.environ.pop("FETCH_SECONDS"))
    for pause in (*_PAUSES, None):
        try:
            if not url.startswith(("http://", "https://")):
                raise Failed("only http and https are fetched")
            path = place(os.environ["FETCH_PATH"], url, home)
            answer = fetch(url, path, home, deadline)
        except (Failed, OSError, ValueError) as error:
            if pause is None or not getattr(error, "again", False) or time.monotonic() + pause > deadline:
                answer = {"error": str(error) or type(error).__name__}
            else:
                time.sleep(pause)
                continue
        break
    sys.stdout.write("\n" + json.dumps(answer) + "\n")
    return 1 if "error" in answer else 0


if __name__ == "__main__":
    sys.exit(main())
