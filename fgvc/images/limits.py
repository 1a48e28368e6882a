"""How much work a picture may cause, and the error of a picture that cannot be read."""

from dataclasses import dataclass

from fgvc.errors import FgvcError, UsageError

MAX_BYTES = 256 * 2**20
"""Of a file."""

USUAL_PIXELS = 120_000_000
"""More than the 102 million of medium format and the 108 million of phones."""

MOST_PIXELS = 2_000_000_000
"""No decoder counts further."""


class ImageError(FgvcError):
    """A file that is not a photograph we can read; the message names the file and says what was found."""


@dataclass(frozen=True)
class Limits:
    """Which pictures are read.

    Attributes:
        max_pixels: pixels that a picture may have. Time and memory that it may take grow with it above the default.
        any_format: read PPM, JPEG 2000, QOI, DDS and SGI too, whose decoders are slow or little tested.
    """

    max_pixels: int = USUAL_PIXELS
    any_format: bool = False

    def check(self, prefix: str = "") -> "Limits":
        """Return self, or raise UsageError, which names the key below `prefix`, for a number outside its range."""
        if not 1 <= self.max_pixels <= MOST_PIXELS:
            raise UsageError(f"{prefix}max_pixels: {self.max_pixels}; it must be from 1 to {MOST_PIXELS}")
        return self

    @property
    def seconds(self) -> int:
        """Processor time that a picture may take."""
        return 5 * self._times

    @property
    def memory(self) -> int:
        """Bytes of memory that a picture may take."""
        return 2**30 * self._times

    @property
    def _times(self) -> int:
        return max(1, -(-self.max_pixels // USUAL_PIXELS))
