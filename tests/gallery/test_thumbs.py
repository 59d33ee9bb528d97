"""The unit that was carried out of the gallery answers as the gallery does, and says what it could not get."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

Png = Callable[[int], bytes]
Start = Callable[..., Any]  # gives an Instance of conftest.py


def unit_of(start: Start, gallery: Any, **env: str) -> Any:
    url = f"http://127.0.0.1:{gallery.port}"
    return start(wait=False, program="thumbs", GALLERY_URL=url, **env)


def test_it_answers_byte_for_byte_as_the_gallery(start: Start, png: Png) -> None:
    gallery = start()
    photo = gallery.upload(png(1)).json["id"]
    unit = unit_of(start, gallery)
    for path in (f"/photos/{photo}/thumb/16", f"/photos/{photo}/thumb/320"):
        ours, theirs = unit.get(path), gallery.get(path)
        assert (ours.status, ours.body) == (theirs.status, theirs.body)
        assert ours.headers["content-type"] == theirs.headers["content-type"] == "image/jpeg"
        assert ours.headers["cache-control"] == theirs.headers["cache-control"]
    for path, status in ((f"/photos/{photo}/thumb/5000", 422), ("/photos/unknown/thumb/100", 404)):
        assert unit.get(path).status == gallery.get(path).status == status


def test_what_it_has_once_it_need_not_ask_for_again(start: Start, png: Png) -> None:
    gallery = start()
    known, unknown = (gallery.upload(png(number)).json["id"] for number in (1, 2))
    unit = unit_of(start, gallery)
    assert unit.get(f"/photos/{known}/thumb/100").status == 200
    gallery.end(signal.SIGKILL)
    assert unit.get(f"/photos/{known}/thumb/50").status == 200
    answer = unit.get(f"/photos/{unknown}/thumb/50")
    assert (answer.status, answer.json["code"]) == (502, "gallery-unreachable")
    assert unit.end() == 0


def test_a_gallery_that_came_back_is_asked_over_a_new_connection(start: Start, png: Png) -> None:
    gallery = start()
    first, second = (gallery.upload(png(number)).json["id"] for number in (1, 2))
    unit = unit_of(start, gallery)
    assert unit.get(f"/photos/{first}/thumb/100").status == 200
    port = gallery.port
    gallery.end()
    start(PORT=str(port))
    assert unit.get(f"/photos/{second}/thumb/100").status == 200


def test_a_bad_version_fails_at_its_rate_and_marks_it(start: Start, png: Png) -> None:
    gallery = start()
    photo = gallery.upload(png(1)).json["id"]
    unit = unit_of(start, gallery, THUMBS_FAIL_RATE="0.2")
    answers = [unit.get(f"/photos/{photo}/thumb/32") for _ in range(10)]
    failed = [answer for answer in answers if answer.status == 500]
    assert len(failed) == 2
    assert all(answer.headers["x-gallery-failed-on-purpose"] == "1" for answer in failed)
