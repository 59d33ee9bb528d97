"""What is wanted, in the keeper's words; and the keeper's refusals, in ours."""

from __future__ import annotations

from typing import get_type_hints

import pytest

from spinyard.core.ids import ResourceKey
from spinyard.core.spec import EnvVar, Isolation, Limits
from spinyard.core.want import ProcessWant
from spinyard.errors import ErrorClass
from spinyard.ports.keeper import StartRequest
from spinyard.providers.process import translate
from spinyard.providers.process.client import KeeperRefused, KeeperUnreachable
from spinyard.providers.process.failures import failure_of

KEY = ResourceKey("uid1/process")


def test_every_field_of_the_protocol_is_said() -> None:
    want = ProcessWant(
        argv=("serve", "--port", "20000"),
        working_dir="/srv",
        ports=(("http", 20000),),
        directories=("uid1/dir/a",),
        limits=Limits(memory_bytes=1, cpu=0.5, open_files=2, processes=3, log_bytes=4),
        isolation=Isolation.NAMESPACES,
        grace_seconds=5.0,
        timeout_seconds=6.0,
    )
    fields = translate.start_fields(KEY, want, epoch=7, installation="i", paths={"uid1/dir/a": "/data/a"})
    assert fields == {
        "key": KEY,
        "epoch": 7,
        "argv": ["serve", "--port", "20000"],
        "env": [{"name": "SPINYARD_INSTALLATION", "value": "i"}],
        "cwd": "/srv",
        "ports": [20000],
        "directories": ["uid1/dir/a"],
        "grace_seconds": 5.0,
        "timeout_seconds": 6.0,
        "memory_bytes": 1,
        "cpu": 0.5,
        "open_files": 2,
        "processes": 3,
        "log_bytes": 4,
        "log_name": "uid1",
        "isolation": "namespaces",
    }
    assert set(fields) | {"v", "id", "op", "merge_env"} == set(get_type_hints(StartRequest))


def test_the_installation_cannot_be_overridden_and_directories_come_first() -> None:
    want = ProcessWant(
        argv=("x",),
        env=(EnvVar("SPINYARD_INSTALLATION", value="other"), EnvVar("COPY", from_variable="DATA")),
        directory_env=(("DATA", "uid1/dir/a"),),
    )
    entries = translate.environment(want, installation="mine", paths={"uid1/dir/a": "/data/a"})
    assert entries[0] == {"name": "DATA", "value": "/data/a"}
    assert entries[-1] == {"name": "SPINYARD_INSTALLATION", "value": "mine"}


@pytest.mark.parametrize(
    ("variable", "entry"),
    [
        pytest.param(EnvVar("A"), {"name": "A", "value": ""}, id="empty value"),
        pytest.param(EnvVar("A", from_file="/f"), {"name": "A", "from_file": "/f"}, id="file"),
        pytest.param(EnvVar("A", from_variable="B"), {"name": "A", "from_variable": "B"}, id="variable"),
        pytest.param(EnvVar("A", secret_file="/s"), {"name": "A", "secret_file": "/s"}, id="secret"),
    ],
)
def test_each_variable_has_one_source(variable: EnvVar, entry: dict[str, str]) -> None:
    assert translate.environment(ProcessWant(argv=("x",), env=(variable,)), installation="i", paths={})[0] == entry


@pytest.mark.parametrize(
    ("key", "expected"),
    [("u/process", False), ("u/step-0", False), ("u/smoke", False), ("u/dir/data", True), ("u/dir/process", True)],
)
def test_directories_are_told_by_their_key(key: str, expected: bool) -> None:
    assert translate.is_directory(ResourceKey(key)) is expected


@pytest.mark.parametrize(
    ("refusal", "error_class", "retryable"),
    [
        (KeeperRefused("PortUnavailable", "m", retryable=True), ErrorClass.PORT_UNAVAILABLE, True),
        (KeeperRefused("DiskFull", "m", retryable=True), ErrorClass.DISK_FULL, True),
        (KeeperRefused("CannotEnforce", "m", retryable=False), ErrorClass.CANNOT_ENFORCE, False),
        (KeeperRefused("StaleEpoch", "m", retryable=False), ErrorClass.INTERNAL, False),
        (KeeperRefused("UnknownOperation", "m", retryable=False), ErrorClass.PROVIDER_ERROR, False),
        (KeeperRefused("SomethingOfLater", "m", retryable=True), ErrorClass.PROVIDER_ERROR, True),
        (KeeperUnreachable("m"), ErrorClass.PROVIDER_ERROR, True),
    ],
    ids=str,
)
def test_refusals_become_failures_with_a_next_step_or_their_own_words(
    refusal: KeeperRefused | KeeperUnreachable, error_class: ErrorClass, retryable: bool
) -> None:
    failure = failure_of(refusal)
    assert (failure.error_class, failure.retryable) == (error_class, retryable)
    assert "m" in failure.message
