"""What docs/manifest.md shows is true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from spinyard.manifest import load
from spinyard.manifest.job_shapes import JobSpecShape
from spinyard.manifest.shapes import NamedTemplateSpecShape, ServiceSpecShape
from spinyard.manifest.spinout_shapes import SpinoutSpecShape

TEXT = (Path(__file__).parents[2] / "docs" / "manifest.md").read_text()
RIGHT = re.findall(r"^```yaml\n(.*?)^```", TEXT, re.M | re.S)
WRONG = re.findall(r"^```yaml wrong\n(.*?)^```\n.*?^```text\n(.*?)^```", TEXT, re.M | re.S)
CONTRACT = b"{openapi: 3.1.0, info: {title: thumbs, version: '1'}, paths: {}}"


def test_there_are_examples() -> None:
    assert len(RIGHT) == 7
    assert len(WRONG) == 1


@pytest.mark.parametrize("text", RIGHT)
def test_a_right_example_is_right(text: str) -> None:
    manifests, problems = load(text, base_dir="/docs", read_file={"/docs/openapi.yaml": CONTRACT}.__getitem__)
    assert problems == []
    assert len(manifests) == 1


@pytest.mark.parametrize(("text", "answer"), WRONG)
def test_a_wrong_example_is_answered_as_shown(text: str, answer: str) -> None:
    _, problems = load(text, "shop.yaml")
    assert [str(problem) for problem in problems] == answer.splitlines()


@pytest.mark.parametrize("shape", [ServiceSpecShape, JobSpecShape, NamedTemplateSpecShape, SpinoutSpecShape])
def test_every_field_is_mentioned(shape: type[BaseModel]) -> None:
    names = {info.alias or name for name, info in shape.model_fields.items()} - {"restartedAt", "annotations"}
    assert {name for name in names if name not in TEXT} == set()
