"""Read a JSON file piece by piece: the elements of its lists, some thousands at a time, never the whole text.

Written by hand: ijson (yajl2_c) takes 1.9 times as long (13.4 s, not 7.2 s, for 1.1 GB) and refuses the published NaN.
"""

import codecs
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

CHUNK = 2**18
"""Bytes that are read at a time."""

_SPACE = re.compile(r"[ \t\n\r]*")
_SEPARATOR = re.compile(r"[ \t\n\r]*([,\]])[ \t\n\r]*")
_UNSURE = 16
"""What lies this near to the end of the text read so far may be cut off; the longest indivisible word is -Infinity."""


def pieces(path: Path, advance: Callable[[int], Any] = lambda count: None) -> Iterator[tuple[str | None, list[Any]]]:
    """Yield (key, some elements) for the lists right below the top, and (key, [value]) for other values there.

    They come in the order of the file; a long list comes in many pieces. A file that is itself a list has the key None.

    Args:
        path: the file, UTF-8.
        advance: told after each read how many bytes were read.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not UTF-8 or not JSON, with the place.
        RecursionError: it is nested too deeply.
    """
    with path.open("rb") as file:
        text = _Text(file, advance)
        if text.token("{[") == "[":
            yield from ((None, some) for some in text.elements())
        elif not text.skip("}"):
            while True:
                if text.next() != '"':
                    raise text.wrong("a key is expected")
                key = text.value()
                text.token(":")
                if text.skip("["):
                    yield from ((key, some) for some in text.elements())
                else:
                    yield key, [text.value()]
                if text.token(",}") == "}":
                    break
        if text.next():
            raise text.wrong("more text after the end")


class _Text:
    """The part of a text that was read and not yet parsed."""

    def __init__(self, file: BinaryIO, advance: Callable[[int], Any]) -> None:
        self._file, self._advance = file, advance
        self._decode = codecs.getincrementaldecoder("utf-8-sig")().decode
        self._scan = json.JSONDecoder().raw_decode
        self._text, self._place = "", 0
        self._passed = 0  # characters before the text

    def wrong(self, what: str, place: int | None = None) -> ValueError:
        """Return an error that says what is wrong, and where."""
        return ValueError(f"{what} at character {self._passed + (self._place if place is None else place):,}")

    def next(self) -> str:
        """Return the next character that is not blank, without taking it; "" at the end."""
        while True:
            self._place = self._after(_SPACE)
            if self._place < len(self._text) or not self._more():
                return self._text[self._place : self._place + 1]

    def skip(self, token: str) -> bool:
        """Take a character if it is the next one."""
        is_next = self.next() == token
        self._place += is_next
        return is_next

    def token(self, allowed: str) -> str:
        """Take the next character, which must be one of some."""
        character = self.next()
        if not character or character not in allowed:
            raise self.wrong(f"{' or '.join(allowed)} is expected")
        self._place += 1
        return character

    def value(self) -> Any:
        """Take one value of any kind."""
        self.next()
        while True:
            try:
                value, end = self._scan(self._text, self._place)
            except json.JSONDecodeError as error:
                what, place = error.msg.removesuffix(" at"), error.pos
            else:
                if end + _UNSURE < len(self._text) or not self._more():
                    self._place = end
                    return value
                continue
            unsure = place + _UNSURE >= len(self._text) or what.startswith("Unterminated string")
            if not unsure or not self._more():
                raise self.wrong(what, place)

    def elements(self) -> Iterator[list[Any]]:
        """Take the elements of a list whose bracket was taken, and the bracket at its end."""
        if self.skip("]"):
            return
        ended = False
        while not ended:
            self.next()  # past the blanks
            some, ended = self._in_bulk() or self._one_by_one()
            if not ended:
                some.append(self.value())
                ended = self.token(",]") == "]"
            yield some

    def _in_bulk(self) -> tuple[list[Any], bool] | None:
        """Take the elements up to the last brace at hand and say whether the list ended; None where that is no cut.

        A text that ends inside a string or an object, and then gets a bracket, does not parse: what parses is right.
        """
        cut = self._text.rfind("}", self._place) + 1
        if not cut:
            return None
        try:
            elements, end = self._scan(f"[{self._text[self._place : cut]}]", 0)
        except ValueError:
            return None
        if not elements:
            return None
        own_bracket = self._place + end - 1
        self._place = min(own_bracket, cut)
        return elements, own_bracket < cut or self.token(",]") == "]"

    def _one_by_one(self) -> tuple[list[Any], bool]:
        """Take the elements that are whole, each with its separator, and say whether the list ended."""
        text, place, scan, separator = self._text, self._place, self._scan, _SEPARATOR.match
        elements, ended = [], False
        try:
            while not ended:
                value, end = scan(text, place)
                between = separator(text, end)
                if between is None:
                    break
                elements.append(value)
                place, ended = between.end(), between[1] == "]"
        except ValueError:
            pass  # cut off or wrong: `value` finds out
        self._place = place
        return elements, ended

    def _after(self, pattern: re.Pattern[str]) -> int:
        match = pattern.match(self._text, self._place)
        return match.end() if match else self._place

    def _more(self) -> bool:
        """Read on; by as much again as is still unparsed, so that one huge value is not scanned too often."""
        rest = self._text[self._place :]
        data, more = b"-", ""
        while data and not more:
            data = self._file.read(max(CHUNK, len(rest)))
            self._advance(len(data))
            try:
                more = self._decode(data, final=not data)
            except UnicodeDecodeError as error:
                read = self._passed + len(self._text)
                raise ValueError(f"no UTF-8 ({error.reason}) after character {read:,}") from None
        if more:
            self._passed += self._place
            self._text, self._place = rest + more, 0
        return bool(more)
