"""What the act of the spinout promised, and what was seen."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape

from examples.gallery.report import LINES_MAX, failure_text
from examples.gallery.show import Show
from examples.gallery.stage import Json
from spinyard.testing.load_result import Failure, LoadResult

UNIT = "thumbs"
BEFORE, AFTER = "thumbnails in the monolith", "thumbnails carried out"


def lost(*results: LoadResult) -> tuple[int, int, list[Failure]]:
    """(lost to the machinery, errors that the bad unit itself answered, those of the lost that were kept)"""
    failures = [one for result in results for one in result.failures]
    own = [one for one in failures if one.apart and one.headers.get("x-gallery-instance", "").startswith(f"{UNIT}-")]
    rest = [one for one in failures if one not in own]
    return sum(result.totals.failed + result.totals.apart for result in results) - len(own), len(own), rest


def report(
    show: Show,
    pages: LoadResult,
    thumbs: LoadResult,
    backs: Sequence[tuple[str, float, Json]],
    left: list[str] | None,
) -> bool:
    """The tables; True when every promise was kept. `left` None: it goes on."""
    before, after = pages.phases[BEFORE].latency_ms, pages.phases[AFTER].latency_ms
    rows: list[tuple[str, str, bool | None]] = [
        (f"pages of the gallery, {name}", f"{was:.0f} -> {now:.0f} ms", None)
        for name, was, now in (
            ("p50", before.p50, after.p50),
            ("p95", before.p95, after.p95),
            ("p99", before.p99, after.p99),
        )
    ]
    show.table("Before -> with thumbnails carried out", rows)
    failed, own, kept = lost(pages, thumbs)
    more = pages.failures_not_kept + thumbs.failures_not_kept
    promised: list[tuple[str, str, bool | None]] = [
        ("requests", str(pages.totals.sent + thumbs.totals.sent), None),
        ("lost to the machinery", str(failed), failed == 0),
        ("  errors that the bad version itself answered", str(own), None),
        *(row for back in backs for row in _back(*back)),
        *([("resources left", str(len(left)), not left)] if left is not None else []),
    ]
    show.table("What was promised, and what was seen", promised)
    for what, _, found in backs:
        show.say(f"  [dim]{escape(what)}: {escape(str(found['status'].get('stopped')))}[/]")
    for line in [failure_text(one) for one in kept[:LINES_MAX]] + (left or [])[:LINES_MAX]:
        show.say(f"    [red]{escape(line)}[/]")
    return more == 0 and all(good is not False for _, _, good in (*rows, *promised))


def _back(what: str, took: float, spinout: Json) -> list[tuple[str, str, bool | None]]:
    why = str(spinout["status"].get("stoppedReason", ""))
    return [
        (f"{UNIT} with {what}: why it went back", why, why == "GateFailed"),
        ("  verdict to verified 0 %", f"{took:.1f} s", None),
    ]
