"""What is a photo, and is a thumbnail always the same one. No process, no store."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from examples.gallery.problems import Problem
from examples.gallery.seed import PHOTOS, shipped_photos
from examples.gallery.thumbnails import render_thumbnail
from examples.gallery.validate import validate_photo


def encoded(mode: str, kind: str, size: tuple[int, int] = (60, 40), **options: object) -> bytes:
    out = io.BytesIO()
    Image.effect_mandelbrot((60, 40), (-2, -1, 1, 1), 50).resize(size).convert(mode).save(out, kind, **options)
    return out.getvalue()


def png_that_claims(width: int, height: int) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


JPEG = encoded("RGB", "JPEG")
PNG = encoded("RGB", "PNG")

BAD = [
    pytest.param(b"", 400, "empty-body", id="nothing"),
    pytest.param(b"hello, I am a picture", 415, "not-a-photo", id="text"),
    pytest.param(b"\xff\xd8\xff\xe0", 415, "not-a-photo", id="only the first bytes of a JPEG"),
    pytest.param(JPEG[: len(JPEG) // 2], 415, "not-a-photo", id="half a JPEG"),
    pytest.param(PNG[: len(PNG) // 2], 415, "not-a-photo", id="half a PNG"),
    pytest.param(PNG[:-40], 415, "not-a-photo", id="PNG without its end"),
    pytest.param(encoded("P", "GIF"), 415, "not-a-photo", id="a GIF"),
    pytest.param(b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "not-a-photo", id="an SVG"),
    pytest.param(png_that_claims(9_000, 9_000), 413, "too-many-pixels", id="81 megapixels"),
    pytest.param(png_that_claims(60_000, 60_000), 413, "too-many-pixels", id="a decompression bomb"),
    pytest.param(png_that_claims(0, 10), 415, "not-a-photo", id="no width"),
]


@pytest.mark.parametrize(("data", "status", "code"), BAD)
def test_what_is_not_a_whole_photo_is_refused_with_a_reason(data: bytes, status: int, code: str) -> None:
    with pytest.raises(Problem) as refused:
        validate_photo(data)
    assert (refused.value.status, refused.value.code) == (status, code)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_whole_photo_is_described(kind: str) -> None:
    facts = validate_photo(encoded("RGB", kind))
    assert (facts.media_type, facts.width, facts.height) == (f"image/{kind.lower()}", 60, 40)


@settings(max_examples=150, deadline=None)
@given(
    source=st.sampled_from([JPEG, PNG]),
    at=st.integers(0, 200),
    noise=st.binary(min_size=0, max_size=12),
    cut=st.booleans(),
)
def test_damaged_photos_are_accepted_or_refused_but_never_crash(
    source: bytes, at: int, noise: bytes, cut: bool
) -> None:
    damaged = source[:at] + noise + (b"" if cut else source[at + len(noise) :])
    try:
        validate_photo(damaged)
    except Problem as refused:
        assert refused.status in (400, 413, 415)


@pytest.mark.parametrize("name", [name for name, _, _ in PHOTOS])
def test_the_shipped_photos_are_photos_and_their_thumbnails_never_change(name: str) -> None:
    data = (shipped_photos() / name).read_bytes()
    validate_photo(data)
    first = render_thumbnail(data, 160)
    assert all(render_thumbnail(data, 160) == first for _ in range(3))
    with Image.open(io.BytesIO(first)) as small:
        assert small.format == "JPEG"
        assert max(small.size) == 160


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: encoded("L", "PNG"), id="grey"),
        pytest.param(lambda: encoded("1", "PNG"), id="black and white"),
        pytest.param(lambda: encoded("P", "PNG"), id="palette"),
        pytest.param(lambda: encoded("P", "PNG", transparency=0), id="palette with a hole"),
        pytest.param(lambda: encoded("RGBA", "PNG"), id="alpha"),
        pytest.param(lambda: encoded("LA", "PNG"), id="grey alpha"),
        pytest.param(lambda: encoded("I;16", "PNG"), id="16 bit"),
        pytest.param(lambda: encoded("CMYK", "JPEG"), id="print colours"),
        pytest.param(lambda: encoded("RGBA", "WEBP"), id="WebP alpha"),
        pytest.param(lambda: encoded("RGB", "JPEG", size=(2, 900)), id="a stripe"),
    ],
)
def test_every_kind_of_picture_has_a_thumbnail(make: Callable[[], bytes]) -> None:
    data = make()
    validate_photo(data)
    with Image.open(io.BytesIO(render_thumbnail(data, 32))) as small:
        assert small.mode == "RGB"
        assert max(small.size) == 32


def test_a_thumbnail_is_never_larger_than_its_photo() -> None:
    with Image.open(io.BytesIO(render_thumbnail(JPEG, 1024))) as small:
        assert small.size == (60, 40)


def test_a_thumbnail_stands_upright_and_says_nothing_about_where_it_was_taken() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # lying on its side
    exif[0x010F] = "a camera"
    with Image.open(io.BytesIO(render_thumbnail(encoded("RGB", "JPEG", exif=exif), 30))) as small:
        assert small.size == (20, 30)
        assert not small.getexif()
