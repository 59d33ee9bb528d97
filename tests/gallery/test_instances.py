"""Real processes on one directory: nothing is lost, nothing happens twice, and each answer is a clear one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest

from examples.gallery.seed import PHOTOS
from spinyard.manifest import load

ROOT = Path(__file__).resolve().parents[2]
Png = Callable[[int], bytes]
Start = Callable[..., Any]  # gives an Instance of conftest.py


def seed_processes(data: Path, count: int) -> list[int]:
    env = {**os.environ, "GALLERY_DATA": str(data)}
    command = [sys.executable, "-m", "examples.gallery.seed"]
    running = [subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL) for _ in range(count)]
    return [process.wait(30) for process in running]


def test_the_first_photos_are_there_once_however_many_instances_seed_at_once(start: Start, tmp_path: Path) -> None:
    assert seed_processes(tmp_path / "data", 4) == [0] * 4
    assert seed_processes(tmp_path / "data", 1) == [0]
    gallery = start()
    photos = gallery.get("/photos").json["items"]
    assert sorted(photo["title"] for photo in photos) == sorted(title for _, title, _ in PHOTOS)
    assert all(len(gallery.get(f"/photos/{photo['id']}").json["comments"]) == 1 for photo in photos)
    thumbs = {gallery.get(f"/photos/{photos[0]['id']}/thumb/200").body for _ in range(3)}
    thumbs.add(start().get(f"/photos/{photos[0]['id']}/thumb/200").body)
    assert len(thumbs) == 1


def test_one_key_sent_to_all_instances_at_once_makes_one_photo(start: Start, png: Png) -> None:
    instances = [start() for _ in range(3)]
    barrier = threading.Barrier(12)

    def upload(number: int) -> Any:
        barrier.wait()
        return instances[number % 3].upload(png(1), key="one")

    with ThreadPoolExecutor(12) as pool:
        replies = list(pool.map(upload, range(12)))
    assert sorted(reply.status for reply in replies) == [200] * 11 + [201]
    assert len({reply.json["id"] for reply in replies}) == 1
    assert len(instances[0].get("/photos").json["items"]) == 1


def test_what_was_acknowledged_survives_the_kill_of_an_instance_and_a_repeat_changes_nothing(
    start: Start, png: Png
) -> None:
    instances = [start() for _ in range(3)]
    acknowledged: dict[int, str] = {}

    def upload(number: int) -> None:
        if number == 20:
            instances[0].process.send_signal(signal.SIGKILL)
        for instance in (instances[number % 3], instances[1]):  # what fails on one is repeated on another
            try:
                reply = instance.upload(png(number), key=f"upload-{number}")
                said = instance.comment(reply.json["id"], {"author": "me", "text": "seen"}, key="c")
            except (URLError, OSError):
                continue
            assert {reply.status, said.status} <= {200, 201}
            acknowledged[number] = reply.json["id"]
            return

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(upload, range(60)))
    survivor = instances[2]
    listed = {photo["id"] for photo in survivor.get("/photos?limit=200").json["items"]}
    assert sorted(acknowledged) == list(range(60))
    assert listed == set(acknowledged.values())
    for number, photo_id in acknowledged.items():
        assert survivor.get(f"/photos/{photo_id}/raw").body == png(number)
    assert len(survivor.get(f"/photos/{acknowledged[0]}").json["comments"]) == 1


def test_a_key_belongs_to_one_body(start: Start, png: Png) -> None:
    gallery = start()
    first = gallery.upload(png(1), key="k")
    assert first.status == 201
    again = gallery.upload(png(1), key="k")
    assert (again.status, again.json, again.headers["idempotency-replayed"]) == (200, first.json, "true")
    other = gallery.upload(png(2), key="k")
    assert (other.status, other.json["code"]) == (422, "idempotency-key-reused")
    assert gallery.upload(png(1), key="k", path="/photos?title=other").status == 422
    assert gallery.upload(png(1)).json["id"] != gallery.upload(png(1)).json["id"]  # without a key: two photos
    photo = first.json["id"]
    said = gallery.comment(photo, {"author": "a", "text": "b"}, key="k")
    assert said.status == 201
    assert gallery.comment(photo, {"author": "a", "text": "b"}, key="k").json == said.json
    assert gallery.comment(photo, {"author": "a", "text": "c"}, key="k").status == 422
    assert len(gallery.get(f"/photos/{photo}").json["comments"]) == 1


def test_a_bad_request_gets_a_reason_and_leaves_nothing(start: Start, png: Png) -> None:
    gallery = start(GALLERY_BODY_BYTES_MAX="50000", GALLERY_PHOTOS_MAX="1")
    for reply, status, code in [
        (gallery.upload(b"no photo"), 415, "not-a-photo"),
        (gallery.upload(png(1)[:40]), 415, "not-a-photo"),
        (gallery.upload(b"x" * 50_001), 413, "body-too-large"),
        (gallery.upload(png(1), key="x" * 256), 400, "bad-idempotency-key"),
        (gallery.get("/photos?limit=0"), 422, "bad-limit"),
        (gallery.get("/photos?limit=9999999999999"), 422, "bad-limit"),
        (gallery.get("/photos/nobody"), 404, "no-such-photo"),
        (gallery.get("/photos/nobody/raw"), 404, "no-such-photo"),
        (gallery.get("/photos/../../etc/passwd"), 404, "not-found"),
        (gallery.get("/photos/nobody/thumb/200"), 404, "no-such-photo"),
        (gallery.get("/photos/nobody/thumb/5000"), 422, "size-out-of-range"),
        (gallery.get("/photos/nobody/thumb/large"), 404, "not-found"),
        (gallery.ask("DELETE", "/photos"), 405, "method-not-allowed"),
        (gallery.comment("nobody", {"author": "a", "text": "b"}), 404, "no-such-photo"),
        (gallery.comment("nobody", {"author": "a"}), 422, "bad-text"),
        (gallery.comment("nobody", {"author": 7, "text": "b"}), 422, "bad-author"),
        (gallery.comment("nobody", ["a"]), 400, "not-json"),
        (gallery.comment("nobody", {"author": "a", "text": "b" * 1_001}), 422, "bad-text"),
        (gallery.comment("nobody", {"author": "a", "text": "b" * 20_000}), 413, "body-too-large"),
    ]:
        assert (reply.status, reply.json["code"]) == (status, code), reply.json
        assert reply.headers["content-type"] == "application/problem+json"
    assert gallery.get("/photos").json == {"items": [], "next": None}
    assert gallery.upload(png(1)).status == 201
    assert gallery.upload(png(2)).json["code"] == "gallery-full"


def test_pages_of_the_list_follow_each_other(start: Start, png: Png) -> None:
    gallery = start()
    ids = [gallery.upload(png(number)).json["id"] for number in range(5)][::-1]
    first = gallery.get("/photos?limit=3").json
    second = gallery.get(f"/photos?limit=3&before={first['next']}").json
    assert [photo["id"] for photo in first["items"] + second["items"]] == ids
    assert second["next"] is None


def test_the_page_takes_forms_and_shows_what_people_write_as_text(start: Start, png: Png) -> None:
    gallery = start(GALLERY_VERSION="<2>", SPINYARD_SPIN="spin-7")
    form = b'--B\r\nContent-Disposition: form-data; name="photo"; filename="a.png"\r\n\r\n' + png(1)
    form += b'\r\n--B\r\nContent-Disposition: form-data; name="title"\r\n\r\n<script>1</script>\r\n--B--\r\n'
    browser = {"Accept": "text/html,*/*", "Content-Type": "multipart/form-data; boundary=B"}
    page = gallery.ask("POST", "/photos", form, browser)  # follows the redirect to the page
    assert page.status == 200
    assert page.headers["x-gallery-instance"] == "spin-7"
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert b"&lt;script&gt;1&lt;/script&gt;" in page.body
    assert b"<script" not in page.body
    assert b"Version &lt;2&gt;" in page.body
    photo = gallery.get("/photos").json["items"][0]["id"]
    fields = {"Accept": "text/html", "Content-Type": "application/x-www-form-urlencoded"}
    page = gallery.ask("POST", f"/photos/{photo}/comments", b"author=Ada&text=so+%3Cnice%3E", fields)
    assert b"<b>Ada</b>so &lt;nice&gt;" in page.body
    wrong = gallery.ask("POST", "/photos", b"--B--\r\n", browser)
    assert wrong.status == 400


def test_a_request_before_readiness_is_refused_and_counted_for_all_instances(start: Start) -> None:
    ready, early = start(), start(wait=False, GALLERY_WARMUP_MS="1500")
    assert early.get("/healthz").status == 503  # asking is no request
    reply = early.get("/photos")
    assert (reply.status, reply.headers["x-gallery-not-ready"], reply.headers["retry-after"]) == (503, "1", "1")
    early.end(signal.SIGKILL)
    stats = ready.get("/stats").json
    assert stats["received_while_not_ready_all_instances"] == 1
    assert (stats["received_while_not_ready"], stats["received"], stats["ready"]) == (0, 0, True)


def test_sigterm_answers_what_is_in_flight_and_ends_with_0(start: Start) -> None:
    gallery = start(GALLERY_DELAY_MS="700")
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(gallery.get, "/photos") for _ in range(4)]
        while gallery.get("/stats").json["in_flight"] < 4:
            pass
        assert gallery.end() == 0
        assert [reply.result().status for reply in asked] == [200] * 4


def test_the_wanted_share_of_requests_fails_and_probes_do_not(start: Start) -> None:
    gallery = start(GALLERY_FAIL_RATE="0.25")
    answers = [gallery.get("/photos") for _ in range(8)]
    assert [one.status for one in answers] == [200, 200, 200, 500] * 2
    assert ["x-gallery-failed-on-purpose" in one.headers for one in answers] == [False, False, False, True] * 2
    assert {gallery.get("/healthz").status for _ in range(5)} == {200}
    assert gallery.get("/stats").json["failed_on_purpose"] == 2


@pytest.mark.parametrize(
    ("env", "says"),
    [
        pytest.param({"GALLERY_DATA": ""}, "GALLERY_DATA must name", id="no directory"),
        pytest.param({"PORT": "http"}, "PORT must be a number", id="port is a word"),
        pytest.param({"GALLERY_FAIL_RATE": "2"}, "between 0 and 1", id="rate above 1"),
        pytest.param({"GALLERY_DATA": "/dev/null/x"}, "cannot be opened", id="directory cannot be made"),
    ],
)
def test_a_wrong_environment_is_a_sentence_and_exit_code_1(env: dict[str, str], says: str, tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, str(ROOT / "examples/gallery/app.py")],
        env={**os.environ, "GALLERY_DATA": str(tmp_path), "PORT": "0", **env},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert ended.returncode == 1
    assert says in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_service_file_is_right_and_names_what_exists() -> None:
    file = ROOT / "examples/gallery/spinyard.yaml"
    manifests, problems = load(file.read_text(), file.name, base_dir=str(file.parent))
    assert problems == []
    (template,) = manifests[0].templates.values()
    assert Path(template.working_dir) == ROOT
    for command in (template.command, template.bootstrap[0].command):
        assert (ROOT / (command[-1].replace(".", "/") + ".py")).is_file(), command
    assert template.data_directories[0].env == "GALLERY_DATA"
