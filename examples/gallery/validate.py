"""Is this body a photograph we can keep? A plain function: bytes in, facts or a reason out."""

from __future__ import annotations

import io
from dataclasses import dataclass

from PIL import Image

from examples.gallery.problems import Problem

PIXELS_MAX = 40_000_000
MEDIA_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}


@dataclass(frozen=True, slots=True)
class PhotoFacts:
    media_type: str
    width: int
    height: int


def validate_photo(data: bytes) -> PhotoFacts:
    """Raises Problem when `data` is not a whole JPEG, PNG or WebP of bearable size."""
    if not data:
        raise Problem(400, "empty-body", "Send the image as the request body or as the multipart field 'photo'.")
    try:
        with Image.open(io.BytesIO(data), formats=tuple(MEDIA_TYPES)) as image:
            if image.width * image.height > PIXELS_MAX:  # open() has read the header only
                raise Problem(413, "too-many-pixels", f"At most {PIXELS_MAX} pixels; this has {image.size}.")
            image.load()  # decodes to the last byte: verify() would let a truncated JPEG pass
            return PhotoFacts(MEDIA_TYPES[image.format or ""], image.width, image.height)
    except Image.DecompressionBombError as bomb:
        raise Problem(413, "too-many-pixels", f"At most {PIXELS_MAX} pixels.") from bomb
    except (OSError, ValueError, SyntaxError, EOFError, KeyError, IndexError, OverflowError) as broken:
        # Pillow raises all of these for hostile or cut-off files; none of them is our fault.
        raise Problem(415, "not-a-photo", f"Not a complete JPEG, PNG or WebP image: {broken}") from broken
