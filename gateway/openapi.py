"""The OpenAPI document: what FastAPI can't see for itself (streamed bodies, problem bodies)."""

from __future__ import annotations

from collections import defaultdict
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from gateway.errors import Forbidden, TooManyFailures, Unauthorized
from gateway.job_request import QUERY_FIELDS, JobRequest
from gateway.problems import MEDIA_TYPE, Problem
from worker.errors import BrokerAway, ServiceError
from worker.jobs import Priority
from worker.sources.urls import MAX_URL_LENGTH

if TYPE_CHECKING:
    from fastapi import FastAPI

Responses = dict[int | str, dict[str, Any]]


def problems(*errors: type[ServiceError]) -> Responses:
    """The answers that stand for these errors and for those of every endpoint, one a status."""
    codes: dict[int, list[str]] = defaultdict(list)
    always: list[type[ServiceError]] = [Unauthorized, Forbidden, TooManyFailures, BrokerAway, ServiceError]
    for error in [*errors, *always]:
        codes[error.http_status].append(error.code)
    return {status: _problem(status, names) for status, names in sorted(codes.items())}


def _problem(status: int, codes: list[str]) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "model": Problem,
        "description": f"{HTTPStatus(status).phrase}: {', '.join(codes)}",
    }
    if status in {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS}:
        answer["headers"] = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
    return answer


def submission() -> dict[str, Any]:
    """The query and the bodies of POST /transcribe, which its endpoint reads as a stream."""
    file = {"type": "string", "format": "binary", "description": "An audio or video file."}
    fields = _request_fields()
    sound = {"schema": {"type": "string", "format": "binary"}}
    form = _closed_object({"file": file, **fields}) | {
        "oneOf": [{"required": ["file"]}, {"required": ["url"]}]
    }
    content = {
        "multipart/form-data": {"schema": form},
        "application/json": {"schema": _closed_object(fields) | {"required": ["url"]}},
        **dict.fromkeys(("audio/*", "video/*", "application/octet-stream"), sound),
    }
    return {
        "parameters": [_query_parameter(name, fields[name]) for name in QUERY_FIELDS],
        "requestBody": {"required": True, "content": content},
    }


def _closed_object(fields: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": fields}


def _query_parameter(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    note = "For a recording that is the body itself; a form's or JSON's own field goes before it."
    return {"name": name, "in": "query", "required": False, "description": note, "schema": schema}


def _request_fields() -> dict[str, Any]:
    """The fields of a job request, without references to other schemas."""
    schema = JobRequest.model_json_schema()
    fields: dict[str, Any] = schema["properties"]
    fields["priority"] = {
        "type": "string",
        "enum": list(Priority),
        "default": Priority.NORMAL,
        "description": fields["priority"]["description"],
    }
    url: dict[str, Any] = fields["url"]
    fields["url"] = {
        "type": "string",
        "pattern": "^([Hh][Tt][Tt][Pp][Ss]?|[Ss]3)://.",
        "maxLength": MAX_URL_LENGTH,
        "description": url["description"],
    }
    return fields


def install(app: FastAPI) -> None:
    """Correct what FastAPI generates: problems' media type, and the 422 of paths that can't have one."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        fresh = app.openapi_schema is None
        document = generate()
        if fresh:
            _correct(document)
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _correct(document: dict[str, Any]) -> None:
    for operations in document["paths"].values():
        for operation in operations.values():
            answers = operation["responses"]
            for status in list(answers):
                schema = _schema_name(answers[status])
                if schema == "Problem":
                    answers[status]["content"] = {MEDIA_TYPE: answers[status]["content"]["application/json"]}
                elif schema == "HTTPValidationError":
                    del answers[status]  # a task id is any text: one that is no UUID is not found
    # Where red is no problem of the request: the report itself; Redis away is one.
    gpus: dict[str, Any] = document["paths"]["/gpus"]["get"]["responses"]["503"]
    gpus["content"][MEDIA_TYPE] = {"schema": {"$ref": "#/components/schemas/Problem"}}
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)
    document["paths"]["/transcribe"]["post"]["responses"]["202"]["links"] = _links(document["paths"])


def _links(paths: dict[str, Any]) -> dict[str, Any]:
    """What can be done with an accepted job, by the path's first word."""
    parameters = {"task_id": "$response.body#/task_id"}
    return {
        path.split("/")[1]: {"operationId": operation["operationId"], "parameters": parameters}
        for path, operations in paths.items()
        for operation in operations.values()
        if "{task_id}" in path
    }


def _schema_name(answer: dict[str, Any]) -> str:
    schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
    return str(schema.get("$ref", "")).rpartition("/")[2]
