"""What OpenAPI says beside the signatures: bodies that we parse ourselves, and every status a route may answer with."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

Documented = dict[int | str, dict[str, Any]]


class Problem(BaseModel):
    """RFC 9457."""

    model_config = ConfigDict(extra="allow")
    type: str
    title: str
    status: int
    detail: str
    code: str
    fault: str
    retryable: bool
    retryAfter: float | None = None
    nextStep: str
    errors: list[dict[str, Any]] = []


class ObjectBody(BaseModel):
    """One object; `spec` as `spinyard schema` describes it."""

    model_config = ConfigDict(extra="forbid")
    apiVersion: str | None = None
    kind: str | None = None
    metadata: dict[str, Any] | None = None
    spec: dict[str, Any]
    status: dict[str, Any] | None = None


class ApplyBody(BaseModel):
    model_config = ConfigDict(extra="forbid")
    objects: list[dict[str, Any]] = Field(max_length=500)
    prune: bool = False
    appliedSet: str = Field("", max_length=200)
    pruneSelector: dict[str, str] = {}


class ScaleBody(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    replicas: int = Field(ge=0, le=10_000)


class ExecBody(BaseModel):
    model_config = ConfigDict(extra="forbid")
    command: list[str] = Field(min_length=1, max_length=1000)
    timeoutSeconds: float = Field(30.0, gt=0, le=86_400)
    stream: bool = False


class ClaimBody(BaseModel):
    """Everything may be left out: a name is made, nothing is brought, and it stays until it is released."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(default="", max_length=63)
    labels: dict[str, str] = {}
    owner: str = ""
    env: list[dict[str, str]] | dict[str, str] | None = None
    files: list[dict[str, str]] | None = None
    ttl: float | str | None = None
    wait: float | str | None = None


class RenewBody(BaseModel):
    model_config = ConfigDict(extra="forbid")
    ttl: float | str | None


class PromoteBody(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    full: bool = False


class AbortBody(BaseModel):
    model_config = ConfigDict(extra="forbid")
    why: str = Field(default="", max_length=500)


class HoldBody(BaseModel):
    """`scope`: empty for everything, `namespace/NAME`, or `kind/NAME` of `namespace`."""

    model_config = ConfigDict(extra="forbid")
    scope: str = Field(default="", max_length=200)
    namespace: str = Field(default="default", pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")
    why: str = Field(max_length=2000)
    forSeconds: float | None = None


class BackupBody(BaseModel):
    model_config = ConfigDict(extra="forbid")
    path: str = Field(min_length=1, max_length=4096)


_WORDS = {
    202: "Asked for; it goes on.",
    400: "A malformed request.",
    401: "No token, or not the token of this server.",
    404: "There is no such thing.",
    405: "Not a method of this path.",
    408: "The body did not arrive in time.",
    409: "It does not fit what is there.",
    410: "The resume token is older than the kept history.",
    412: "If-Match does not hold.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    421: "Not a host name of this server.",
    422: "The request is not valid; `errors` says where.",
    429: "Too many requests at once.",
    500: "Our fault.",
    502: "The provider said no.",
    503: "The server cannot do it now.",
}
_ALWAYS = (400, 401, 405, 408, 413, 415, 421, 422, 429, 500, 503)
_PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}


def answers(*statuses: int, media_type: str = "application/json", ok: tuple[int, ...] = (200,)) -> Documented:
    """`ok` with a body of `media_type`, problems for the rest."""
    problems: Documented = {s: {"description": _WORDS[s], "content": _PROBLEM} for s in (*_ALWAYS, *statuses)}
    schema = {"type": "object"} if media_type == "application/json" else {"type": "string"}
    good: Documented = {
        s: {"description": _WORDS.get(s, "Done."), "content": {media_type: {"schema": schema}}} for s in ok
    }
    return {**good, **problems}


def body_of(model: type[BaseModel]) -> dict[str, Any]:
    """For routes that read the body themselves."""
    reference = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": reference}}}}


def components() -> dict[str, Any]:
    """Schemas that no signature mentions."""
    models = (Problem, ObjectBody, ApplyBody)
    return {m.__name__: m.model_json_schema(ref_template="#/components/schemas/{model}") for m in models}
