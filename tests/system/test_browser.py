"""The gallery as a person sees it: a real browser, through Envoy, at the name that the demo prints."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.e2e.house import House
from tests.system.browser import Page, browsing, wait

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

PICTURES = "[...document.querySelectorAll('article img')]"
ALL_LOADED = f"{PICTURES}.length > 0 && {PICTURES}.every(one => one.complete)"


@pytest.fixture(scope="module")
def gallery() -> Iterator[str]:
    """Its address, with three instances behind it."""
    house = House()
    try:
        house.start()
        house.cli("up", "-f", "examples/gallery/spinyard.yaml", "--timeout", "60s", timeout=90)
        yield f"http://gallery.localhost:{house.gateway_port}/"
    finally:
        house.close()


@pytest.fixture
def page(gallery: str) -> Iterator[Page]:
    with browsing() as page:
        page.resize(1280, 3000)  # tall: pictures that are out of sight are not loaded
        page.open(gallery)
        yield page


def test_thumbnails_are_seen_at_the_printed_name_and_the_console_is_silent(page: Page, gallery: str) -> None:
    wait("all thumbnails are there", lambda: bool(page.value(ALL_LOADED)))
    widths = page.value(f"{PICTURES}.map(one => one.naturalWidth)")
    assert len(widths) >= 7
    assert min(widths) > 0, widths
    assert page.value("location.href") == gallery
    assert page.value("document.querySelector('header form input[type=file]') !== null")
    assert page.value("document.documentElement.scrollWidth <= innerWidth"), "it must not scroll sideways"
    assert page.complaints == []


def test_a_comment_is_there_after_it_was_sent(page: Page) -> None:
    first = "document.querySelector('article:last-of-type"
    with page.loading():
        page.value(
            f"{first} input[name=author]').value = 'Ada';"
            f"{first} input[name=text]').value = 'Seen in a browser <b>&amp;</b>';"
            f"{first} form button').click()"
        )
    assert page.value(f"{first} ul').innerText.includes('Seen in a browser <b>&amp;</b>')"), "text, not markup"
    assert page.complaints == []


def test_a_photo_is_there_after_its_upload(page: Page, tmp_path: Path) -> None:
    path = tmp_path / "sea.png"
    Image.new("RGB", (640, 400), (20, 90, 140)).save(path)
    page.choose_file("input[type=file]", path)
    with page.loading():
        page.value(
            "document.querySelector('input[name=title]').value = 'The sea';"
            "document.querySelector('header form button').click()"
        )
    assert page.value("document.querySelector('article h2').innerText") == "The sea"
    wait("its thumbnail is there", lambda: bool(page.value(ALL_LOADED)))
    assert page.value(f"{PICTURES}[0].naturalWidth") == 480
    assert page.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_light_and_in_dark(page: Page, scheme: str) -> None:
    page.prefer(scheme)
    for selector in ("h1", "header p", "article h2", "article small", "article li", "footer", "button"):
        ratio = page.value(CONTRAST % selector)
        assert ratio >= 4.5, f"{selector} in {scheme}: contrast {ratio:.1f}"  # WCAG 2.2, 1.4.3, level AA


# Contrast of an element's text with the nearest background behind it: (L1 + 0.05) / (L2 + 0.05), WCAG 2.2.
CONTRAST = """(() => {
  const numbers = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  let element = document.querySelector("%s"), behind = element;
  const seen = one => numbers(getComputedStyle(one).backgroundColor);
  while (seen(behind)[3] === 0) behind = behind.parentElement;
  const pair = [light(numbers(getComputedStyle(element).color)), light(seen(behind))].sort((a, b) => b - a);
  return (pair[0] + 0.05) / (pair[1] + 0.05);
})()"""
