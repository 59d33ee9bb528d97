"""What holds for every test: nothing is skipped silently.

A skip or an expected failure is a failure, with the reason in its text, unless the test is marked `system`: a missing
component must be seen. Async tests run on asyncio.
"""

from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

# How fast inputs are made says something of the machine's other work, and nothing of what is tested.
settings.register_profile("spinyard", suppress_health_check=[HealthCheck.too_slow], deadline=None)
settings.load_profile("spinyard")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if item.get_closest_marker("system") is None:
        _refuse(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if report.skipped:
        _refuse(report)
    return report


def _refuse(report: pytest.TestReport | pytest.CollectReport) -> None:
    expected_to_fail = hasattr(report, "wasxfail")
    if not (report.skipped or expected_to_fail):
        return
    reason = report.wasxfail if expected_to_fail else _reason(report.longrepr)
    if expected_to_fail:
        del report.wasxfail
    report.outcome = "failed"
    report.longrepr = f"Skipped or expected to fail, which only tests marked `system` may: {reason}"


def _reason(longrepr: object) -> str:
    return str(longrepr[2]) if isinstance(longrepr, tuple) else str(longrepr)
