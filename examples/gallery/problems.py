"""What goes wrong and may be told: one exception, answered as problem+json (RFC 9457)."""

from __future__ import annotations


class Problem(Exception):
    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail

    def as_dict(self) -> dict[str, object]:
        words = {"type": "about:blank", "title": self.code, "code": self.code, "detail": self.detail}
        return {**words, "status": self.status}
