"""Rendering of thumbnails: the responsibility that is later carried out of the gallery into a service of its own.

It knows nothing of the rest of the application: bytes and a size in, bytes out. The same input gives the same bytes
each time (fixed encoder settings, no metadata copied), so that two sides can be compared byte by byte.
"""

from __future__ import annotations

import io

from PIL import Image, ImageOps

THUMBNAIL_TYPE = "image/jpeg"
SIZE_MIN, SIZE_MAX = 16, 1024
PAPER = (255, 255, 255)


def render_thumbnail(data: bytes, size: int) -> bytes:
    """The photo `data` as a JPEG that fits into `size` x `size` pixels; never larger than the photo itself."""
    with Image.open(io.BytesIO(data)) as photo:
        # thumbnail() first, orientation after: turning a small picture is cheap, turning a large one is not.
        full = photo.convert("RGBA") if photo.mode == "P" else photo  # a palette cannot be smoothed
        full.thumbnail((size, size), Image.Resampling.LANCZOS, reducing_gap=2.0)
        small = _on_paper(ImageOps.exif_transpose(full))
    out = io.BytesIO()
    small.save(out, "JPEG", quality=82, subsampling="4:2:0", optimize=False, progressive=False)
    return out.getvalue()


def _on_paper(photo: Image.Image) -> Image.Image:
    if "A" not in photo.getbands() and "transparency" not in photo.info:
        return photo.convert("RGB")
    photo = photo.convert("RGBA")
    sheet = Image.new("RGB", photo.size, PAPER)
    sheet.paste(photo, mask=photo.getchannel("A"))
    return sheet
