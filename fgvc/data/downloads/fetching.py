"""Fetch one file over HTTP: continue where it stopped, check what arrives, give the file its name when it is whole."""

import http.client
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fgvc.data.downloads.partial_file import BLOCK, PartialFile, check_whole, readable
from fgvc.errors import FgvcError
from fgvc.files.bars import byte_bar
from fgvc.files.lines import tell

TRIES = 5
"""How many times in a row a connection may fail before a block has arrived."""
PASSING = {408, 425, 429, 500, 502, 503, 504}
"""Status codes after which the same request may succeed a moment later."""


def fetch(
    url: str,
    target: Path,
    md5: str | None = None,
    size: int | None = None,
    at_most: int | None = None,
    timeout: float = 60.0,
    pause: Callable[[float], object] = time.sleep,
) -> None:
    """Fetch a file, unless it is there and right. What arrives is kept in `<target>.part` for the next call.

    Args:
        url: its address; the environment names proxies.
        target: where it goes; its folder exists.
        md5: its checksum, or None to check only the length that the server announces.
        size: its exact length in bytes, or None.
        at_most: the length in bytes beyond which it cannot be the file that is meant, or None.
        timeout: seconds of silence after which a connection counts as cut.
        pause: waits that many seconds between two tries.

    Raises:
        FgvcError: it could not be fetched, or is not the file that was asked for.
    """
    if target.exists():
        check_whole(target, md5, size)
        return
    part = PartialFile(target, url)
    try:
        failures, farthest = 0, part.have
        while not (part.have and part.have == part.total):
            try:
                if _receive(part, url, size, at_most, timeout):
                    break
            except (OSError, http.client.HTTPException) as error:  # the disk's own are FgvcErrors by now
                failures = 1 if part.have >= farthest + BLOCK else failures + 1
                farthest = max(farthest, part.have)
                _wait(part, url, _reason(error), failures, pause)
    finally:
        part.close()
    part.finish(md5, size)


def _wait(part: PartialFile, url: str, reason: str, failures: int, pause: Callable[[float], object]) -> None:
    if failures == TRIES:
        kept = f"{part.progress} arrived and is kept: " if part.have else ""
        raise FgvcError(f"{url}: {reason}, {TRIES} times in a row; {kept}give the same command again to continue")
    seconds = 2 ** (failures - 1)
    tell(f"{part.target.name}: {reason} after {part.progress}; again in {seconds} s")
    pause(seconds)


def _receive(part: PartialFile, url: str, size: int | None, at_most: int | None, timeout: float) -> bool:
    """Request the missing bytes, append them to the part, and return whether the file is complete."""
    headers = {"User-Agent": "fgvc", "Accept-Encoding": "identity"}
    if part.have:
        headers["Range"] = f"bytes={part.have}-"
        if part.validator:
            headers["If-Range"] = part.validator  # a file that has changed is then sent from its start
    with _open(urllib.request.Request(url, headers=headers), timeout) as response:
        if response.status == 200:
            _begin(part, url, response, size, at_most)
        elif not part.have:
            raise FgvcError(f"{url}: the server answers {response.status} to a plain request; try another network")
        elif response.status == 416 or not _continues(response, part):
            part.restart()
            return False
        name = part.target.name
        with byte_bar(name, part.total, initial=part.have) as watched:
            while block := response.read1(BLOCK):
                part.append(block)
                watched.update(len(block))
                _check_length(url, part.have, None, at_most)
    if part.total is not None and part.have < part.total:
        raise ConnectionError("the connection was cut")
    return True


def _begin(part: PartialFile, url: str, response: Any, size: int | None, at_most: int | None) -> None:
    """Start a file over, but check first that the answer is the file: a part may be days of work."""
    if response.headers.get_content_type() == "text/html":
        raise FgvcError(f"{url}: the server sends a web page, not a file; open the address in a browser to see why")
    length = response.headers["Content-Length"]
    total = int(length) if length and length.isdigit() else None
    _check_length(url, total, size, at_most)
    if part.have:
        tell(f"{part.target.name}: the server does not continue what there is; from its start again")
    part.restart(total, _validator(response))


def _open(request: urllib.request.Request, timeout: float) -> Any:
    """Return the response; also a 416, which refuses a range that the file does not have."""
    try:
        return urllib.request.build_opener(StaySecure).open(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code == 416 and request.has_header("Range"):
            return error
        error.close()
        answer = f"the server answers {error.code} {error.reason}"
        if error.code in PASSING:
            raise ConnectionError(answer) from None
        raise FgvcError(
            f"{request.full_url}: {answer}; open the address in a browser to see why, or look for a new one on the "
            "page of the data set"
        ) from None
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            why = error.reason.verify_message
            raise FgvcError(f"{request.full_url}: the server's certificate is not valid: {why}") from None
        raise


class StaySecure(urllib.request.HTTPRedirectHandler):
    """Follows redirections, but from https only to https: anybody on the way can change what comes without it."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        """Return the next request, or raise FgvcError."""
        if req.type == "https" and not newurl.startswith("https:"):
            raise FgvcError(
                f"{req.full_url}: redirected to {newurl}, which is not https; nothing was fetched from there"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _continues(response: Any, part: PartialFile) -> bool:
    """Return whether a partial answer goes on where the part stops, in the same file."""
    span, _, total = str(response.headers["Content-Range"]).partition("/")
    same = part.validator is None or _validator(response) in (None, part.validator)
    return same and span.startswith(f"bytes {part.have}-") and (part.total is None or total == str(part.total))


def _validator(response: Any) -> str | None:
    """Return what identifies this version of the file: a strong ETag, else the date."""
    tag: str | None = response.headers["ETag"]
    date: str | None = response.headers["Last-Modified"]
    return tag if tag and not tag.startswith("W/") else date


def _check_length(url: str, length: int | None, size: int | None, at_most: int | None) -> None:
    if length is None:
        return
    if (size is not None and length != size) or (at_most is not None and length > at_most):
        expected = f"{size:,}" if size is not None else f"at most {readable(at_most or 0)}"
        raise FgvcError(
            f"{url}: the server sends {length:,} bytes, not {expected}; open the address in a browser to see what that "
            "is: a log-in page, or a changed file"
        )


def _reason(error: BaseException) -> str:
    cause = getattr(error, "reason", error)
    if isinstance(cause, TimeoutError):
        return "no answer"
    return str(getattr(cause, "strerror", None) or cause or type(cause).__name__)
