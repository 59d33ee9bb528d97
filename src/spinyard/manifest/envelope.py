"""apiVersion and kind: first, because they decide what everything else means."""

from __future__ import annotations

from spinyard.manifest.kinds import SHAPES
from spinyard.manifest.nearest import did_you_mean
from spinyard.manifest.objects import API_VERSION
from spinyard.manifest.report import Report
from spinyard.manifest.scalars import shown

_READ_ONLY = {
    "Spin": "a Spin is made by its Service or Job: write one of these, and `spinyard get spins` shows its instances",
    "Rollout": "a Rollout is made when a Service with spec.rollout is applied with another template: write that",
    "Resource": "a Resource is a line of the ledger, written by the server: `spinyard get resources` shows them",
}
_KUBERNETES = {
    "Deployment": "a Service runs the program and gets its requests: kind: Service, with spec.template.command",
    "StatefulSet": "use kind: Service; dataDirectories with scope: service outlive an instance",
    "DaemonSet": "there is one machine: use kind: Service",
    "ReplicaSet": "use kind: Service with replicas",
    "Pod": "use kind: Service with replicas: 1, or kind: Job",
    "CronJob": "use kind: Job, started by your own timer",
    "Ingress": "use spec.route of the Service: hosts and pathPrefix",
    "ConfigMap": "use env with valueFrom.file in the template",
    "Secret": "use env with valueFrom.secretFile in the template",
    "Namespace": "namespaces need no object: set metadata.namespace",
    "PersistentVolumeClaim": "use dataDirectories in the template",
}
_KINDS = "Service, Job, WarmPool, Claim, Spinout or Template"


def check_envelope(report: Report) -> str | None:
    """The kind, when the rest can be checked by it. A missing or odd apiVersion alone does not stop that."""
    raw = report.root.value
    if not isinstance(raw, dict):
        report.add(
            (), "wrong_type", f"expected an object, got {shown(raw)}", "a mapping with apiVersion, kind, metadata, spec"
        )
        return None
    version, kind = raw.get("apiVersion"), raw.get("kind")
    if isinstance(kind, str) and _is_kubernetes(version, kind):
        meant = _KUBERNETES.get(kind) or f"a Spinyard {kind} runs a program itself; write apiVersion: {API_VERSION}"
        said = f"apiVersion {version}, kind {kind}" if version is not None else f"kind {kind}"
        at: tuple[str | int, ...] = ("kind",) if kind not in SHAPES else ("apiVersion",)
        report.add(at, "kubernetes_object", f"this is an object of Kubernetes ({said})", f"kind {_KINDS}", meant)
        return None
    _check_version(version, report)
    if kind is None:
        report.add((), "missing_field", "kind is missing", f"kind: {_KINDS}")
    elif not isinstance(kind, str):
        report.add(("kind",), "wrong_type", f"got {shown(kind)}", _KINDS)
    elif kind in SHAPES:
        return kind
    elif kind in _READ_ONLY:
        message = f"kind {kind} cannot be written"
        report.add(("kind",), "read_only_kind", message, f"kind {_KINDS}", _READ_ONLY[kind])
    else:
        message = f'there is no kind "{kind[:80]}"'
        report.add(("kind",), "unknown_kind", message, _KINDS, did_you_mean(kind, SHAPES))
    return None


def _is_kubernetes(version: object, kind: str) -> bool:
    if kind in _KUBERNETES:
        return True
    if not isinstance(version, str):
        return False
    return version in ("v1", "v1beta1") or version.startswith(("apps/", "batch/", "networking.k8s.io/"))


def _check_version(version: object, report: Report) -> None:
    if version is None:
        report.add((), "missing_field", "apiVersion is missing", API_VERSION, f"write apiVersion: {API_VERSION}")
    elif version != API_VERSION:
        words = f"{shown(version)} is not a version of this API"
        report.add(("apiVersion",), "unknown_version", words, API_VERSION, f"write apiVersion: {API_VERSION}")
