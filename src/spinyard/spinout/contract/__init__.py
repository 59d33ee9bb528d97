"""Contracts: what a unit takes and answers, as OpenAPI, and what a change of that does to those who call it. Pure.

`compare(old, new)` is what a gate `contract-compat` would ask: its `is_compatible` says whether every caller of the old
contract is served by the new one. `shown_to_fail()` proves that each of its checks can fail.
"""

from spinyard.spinout.contract.checks import CHECKS
from spinyard.spinout.contract.compare import compare
from spinyard.spinout.contract.document import InvalidContract, digest
from spinyard.spinout.contract.extract import CannotExtract, Leaving, contract_of, is_boundary, leaving
from spinyard.spinout.contract.finding import ContractDiff, Finding, Place, Severity
from spinyard.spinout.contract.planted import Shown, shown_to_fail
from spinyard.spinout.contract.restrict import restrict

__all__ = [
    "CHECKS",
    "CannotExtract",
    "ContractDiff",
    "Finding",
    "InvalidContract",
    "Leaving",
    "Place",
    "Severity",
    "Shown",
    "compare",
    "contract_of",
    "digest",
    "is_boundary",
    "leaving",
    "restrict",
    "shown_to_fail",
]
