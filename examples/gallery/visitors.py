"""Visitors of the gallery, until it is ended: each looks at the page and at thumbnails, through the gateway.

GATEWAY=127.0.0.1:8080 RATE=30 python -m examples.gallery.visitors
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import threading
import time
from collections import Counter

ADDRESS = os.environ.get("GATEWAY", "127.0.0.1:8080")
HOST = os.environ.get("GALLERY_HOST", "gallery.localhost")
RATE = float(os.environ.get("RATE", "30"))
VISITORS = 10

counts: Counter[str] = Counter()


def visit(number: int) -> None:
    connection = http.client.HTTPConnection(ADDRESS, timeout=10)
    photos: list[str] = []
    for turn in itertools.count():
        time.sleep(VISITORS / RATE)
        path = "/photos" if not photos or turn % 20 == 0 else "/"
        if photos and turn % 3:
            path = f"/photos/{photos[turn % len(photos)]}/thumb/320"
        try:
            connection.request("GET", path, headers={"Host": HOST, "x-user": f"{number}-{turn % 50}"})
            answer = connection.getresponse()
            body = answer.read()
            counts[str(answer.status)] += 1
            if path == "/photos" and answer.status == 200:
                photos = [one["id"] for one in json.loads(body)["items"]]
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            counts[type(error).__name__] += 1


def main() -> None:
    for number in range(VISITORS):
        threading.Thread(target=visit, args=(number,), daemon=True).start()
    while True:
        time.sleep(10)
        print(dict(counts), flush=True)


if __name__ == "__main__":
    main()
