"""What an instance is told of where its spans go."""

from __future__ import annotations

from dataclasses import replace

import pytest

from spinyard.core.observed import Seen
from spinyard.core.spec import EnvVar
from spinyard.spin.snapshot import Snapshot
from spinyard.spin.status import SpinStatus
from spinyard.spin.translate import main_want
from tests.spin.spins import NOW, RULES, spin, template

OTLP = "http://127.0.0.1:4318"
OURS = {
    "SPINYARD_OTLP": OTLP,
    "OTEL_SERVICE_NAME": "web",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{OTLP}/v1/traces",
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
}


def told(*env: EnvVar, otlp: str = OTLP) -> dict[str, str]:
    made_of = template(env=env)
    status = SpinStatus()
    row = spin("provisioning", made_of, status)
    snapshot = Snapshot(row, row.spec, made_of, status, Seen({}, {}), replace(RULES, otlp=otlp), NOW)  # type: ignore[arg-type]
    want = main_want(snapshot)
    return {one.name: one.value for one in want.env if one.name.startswith(("OTEL_", "SPINYARD_OTLP"))}


def test_an_instance_is_told_for_our_sdk_and_for_theirs() -> None:
    assert told() == OURS


def test_without_a_receiver_nothing_is_told() -> None:
    assert told(otlp="") == {}


@pytest.mark.parametrize(
    ("variable", "left"),
    [
        (EnvVar("OTEL_SERVICE_NAME", "shop"), {"SPINYARD_OTLP", *list(OURS)[2:]}),
        (EnvVar("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317"), {"SPINYARD_OTLP", "OTEL_SERVICE_NAME"}),
        (EnvVar("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"), {"SPINYARD_OTLP", "OTEL_SERVICE_NAME"}),
        (EnvVar("OTEL_EXPORTER_OTLP_ENDPOINT", from_variable="THEIRS"), {"SPINYARD_OTLP", "OTEL_SERVICE_NAME"}),
    ],
    ids=["its name", "its collector", "its protocol", "its collector from elsewhere"],
)
def test_what_a_template_says_itself_is_left_alone(variable: EnvVar, left: set[str]) -> None:
    found = told(variable)
    assert found[variable.name] == variable.value
    assert {name for name in found if name != variable.name} == left
