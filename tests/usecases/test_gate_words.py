"""One gate in a line of `explain`."""

from __future__ import annotations

import pytest

from spinyard.core.figures import Gate
from spinyard.usecases.explain_rollout import gate_text


@pytest.mark.parametrize("why", ["not decided", "not decided: 0 of 1; needs about 95 more requests on the new side"])
def test_what_a_gate_still_needs_is_said_once(why: str) -> None:
    assert gate_text(Gate("success rate", "inconclusive", why, 95)).count("needs about 95 more requests") == 1
