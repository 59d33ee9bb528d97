"""Contracts for people: findings by place, a verification with its samples, a document as YAML or JSON."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from spinyard.cli.output import print_data
from spinyard.cli.table import hanging
from spinyard.cli.words import BAD, BUSY, DIM, GOOD, counted, paint

if TYPE_CHECKING:
    from spinyard.cli.contract_verify import Verification
    from spinyard.spinout.contract import ContractDiff, Finding

_COLOURS = {"breaking": BAD, "note": BUSY, "safe": DIM}
_VERDICTS = {"pass": GOOD, "fail": BAD, "inconclusive": BUSY, "error": BAD}


def print_document(document: dict[str, Any], output: str) -> None:
    print_data(document, "json" if output == "json" else "yaml")


def print_diff(diff: ContractDiff) -> None:
    for finding in diff.findings:
        _print_finding(finding)
    omitted = sum(diff.omitted.values())
    if omitted:
        print(f"and {omitted} more\n")
    if not diff.findings:
        print("no difference that a caller could tell")
        return
    counts = ", ".join(f"{diff.count(severity)} {severity.value}" for severity in type(diff.findings[0].severity))
    verdict = "compatible" if diff.is_compatible else "not compatible"
    print(f"{paint(verdict, GOOD if diff.is_compatible else BAD)}: {counts}")


def _print_finding(finding: Finding) -> None:
    severity = finding.severity.value
    print(f"{paint(f'{severity:<8}', _COLOURS[severity])}  {finding.id}")
    print(hanging("          ", " ".join((finding.place.text() or "the whole contract").split())))
    print(hanging("          ", " ".join(finding.message.split())) + "\n")


def print_verification(found: Verification) -> None:
    for one in found.operations:
        statuses = ", ".join(f"{count} x {status}" for status, count in sorted(one["statuses"].items()))
        print(f"{one['operation']}  {one['why'] or statuses or 'not asked'}")
    for sample in found.samples:
        print(f"\n{paint(sample['check'], BAD)}  {sample['operation']}  {sample['status']}".rstrip())
        for text in (sample["message"], sample["request"], sample["answer"]):
            if text:
                print(hanging("  ", _printable(text)))
    print(f"\n{paint(found.verdict, _VERDICTS[found.verdict])}: {found.why} ({counted(found.requests, 'request')})")


def _printable(text: str) -> str:
    """A unit's answer may hold anything; it is shown, and does not write on the terminal."""
    encoding = sys.stdout.encoding or "utf-8"
    shown = "".join(char if char.isprintable() or char == "\n" else "?" for char in text)
    return shown.encode(encoding, errors="replace").decode(encoding)
