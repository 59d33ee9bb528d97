"""What concerns several fields of `spec.rollout`. Puts up with anything of a wrong type, as `checks` does."""

from __future__ import annotations

from itertools import pairwise

from spinyard.manifest.checks import Raw, is_mapping, mappings
from spinyard.manifest.report import Path, Report
from spinyard.manifest.scalars import plain_number

AT: Path = ("spec", "rollout")
_STICKY = ("header", "cookie", "clientAddress")


def check_rollout(raw: Raw, report: Report) -> None:
    """Nothing when the Service has none."""
    spec = raw.get("spec")
    if not is_mapping(spec) or spec.get("rollout") is None:
        return
    rollout = spec["rollout"]
    _check_place(spec, report)
    if not is_mapping(rollout):
        return
    _check_steps(rollout, report)
    analysis = rollout.get("analysis")
    if is_mapping(analysis):
        _check_latency(analysis, report)
        _check_gauges(analysis, report)
    sticky = rollout.get("sticky")
    if is_mapping(sticky):
        _check_sticky(sticky, report)


def _check_place(spec: Raw, report: Report) -> None:
    if "external" in spec:
        message = "there is no other version of something that runs elsewhere"
        report.add(AT, "one_of", message, "no rollout", at_key=True)
    elif "route" not in spec:
        message = "without a route there are no requests to weigh"
        hint = "write route: {hosts: [...]}, or leave rollout out: instances are replaced one after the other"
        report.add(AT, "missing_field", message, "spec.route", hint, at_key=True)
    template = spec.get("template")
    for index, port in mappings(template, "ports") if is_mapping(template) else ():
        number = port.get("number") or port.get("containerPort")
        if number:
            message = f"both versions run at the same time, and cannot both open port {str(number)[:20]}"
            at: Path = ("spec", "template", "ports", index)
            report.add(at, "fixed_port", message, "no number", "leave the number out and use ${PORT} in command or env")


def _check_steps(rollout: Raw, report: Report) -> None:
    weights = [(index, _number(step.get("weight"))) for index, step in mappings(rollout, "steps")]
    known = [(index, weight) for index, weight in weights if weight is not None]
    steps = rollout.get("steps")
    if not known or not isinstance(steps, list) or len(known) != len(steps):
        return
    for (_, before), (index, weight) in pairwise(known):
        if weight <= before:
            message = f"{plain_number(weight)} after {plain_number(before)}: weights rise"
            report.add((*AT, "steps", index, "weight"), "out_of_range", message, f"more than {plain_number(before)}")
    index, last = known[-1]
    if last < 100:
        message = f"the last step has {plain_number(last)}: the old version would keep the rest"
        report.add((*AT, "steps", index, "weight"), "out_of_range", message, "100", "add - {weight: 100}")
    if rollout.get("type") == "blueGreen" and any(weight != 100 for _, weight in known):
        message = "blueGreen moves all requests at once"
        hint = "leave steps out, or write type: canary"
        report.add((*AT, "steps"), "one_of", message, "one step of 100", hint, at_key=True)


def _check_latency(analysis: Raw, report: Report) -> None:
    seen: set[object] = set()
    for index, limit in mappings(analysis, "latency"):
        at: Path = (*AT, "analysis", "latency", index)
        if "max" not in limit and "maxRatio" not in limit:
            message = "max or maxRatio is missing"
            report.add(at, "missing_field", message, "max, maxRatio or both", "max: 300ms, or maxRatio: 1.5")
        quantile = _number(limit.get("quantile"))
        if quantile is not None and quantile in seen:
            message = f"quantile {plain_number(quantile)} is given twice"
            report.add((*at, "quantile"), "duplicate_name", message, "each quantile once")
        seen.add(quantile)


def _check_gauges(analysis: Raw, report: Report) -> None:
    seen: set[str] = set()
    for index, limit in mappings(analysis, "gauges"):
        at: Path = (*AT, "analysis", "gauges", index)
        name, most = limit.get("name"), _number(limit.get("max"))
        if not isinstance(name, str):
            continue
        if name in seen:
            report.add((*at, "name"), "duplicate_name", f"{name[:80]} is given twice", "each gauge once")
        seen.add(name)
        if name == "failureRate" and most is not None and most > 100:
            report.add((*at, "max"), "out_of_range", f"{plain_number(most)} is more than all", "0 to 100 percent")


def _check_sticky(sticky: Raw, report: Report) -> None:
    at: Path = (*AT, "sticky")
    given = [name for name in _STICKY if name in sticky]
    listed = "header, cookie or clientAddress"
    if not given and set(sticky) <= {"noKey"}:
        report.add(at, "missing_field", f"one of {listed} is missing", f"exactly one of {listed}")
    for name in given[1:]:
        message = f"{name} cannot stand beside {given[0]}"
        report.add((*at, name), "one_of", message, f"exactly one of {listed}", at_key=True)
    if given == ["clientAddress"] and "noKey" in sticky:
        message = "every request has an address"
        report.add((*at, "noKey"), "one_of", message, "no noKey", at_key=True)


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < 1e9 else None
