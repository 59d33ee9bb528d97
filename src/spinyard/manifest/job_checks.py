"""What concerns several fields of a Job on a pool. Puts up with anything of a wrong type, as `checks` does."""

from __future__ import annotations

from spinyard.manifest.checks import Raw, check_program, is_mapping, is_misspelt, unique
from spinyard.manifest.report import Report

ON_POOL = ("command", "args", "env", "files")


def check_job(raw: Raw, report: Report) -> None:
    spec = raw.get("spec")
    if not is_mapping(spec):
        return
    if "pool" in spec:
        command = spec.get("command")
        if command == [] or (command is None and not is_misspelt(spec, ("command",))):
            hint = "args alone are not a program" if "args" in spec else ""
            report.add(("spec",), "missing_field", "command is missing", "what to run on the member: a list", hint)
        check_program(spec, "command", ("spec",), report)
        unique(spec, "env", "variable", ("spec",), report)
        unique(spec, "files", "file", ("spec",), report)
        return
    for name in ON_POOL:
        if name in spec:
            message = f"{name} is of a Job on a pool, and there is no pool"
            hint = f"write spec.template.{name}" if name != "files" else ""
            report.add(("spec", name), "one_of", message, f"pool, or no {name}", hint, at_key=True)
