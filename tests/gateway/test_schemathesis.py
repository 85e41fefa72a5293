"""The running gateway against its own OpenAPI document, by schemathesis: no 5xx, nothing undocumented.

No worker: what is answered then depends on what is asked alone, so the same cases come each time.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    use_after_free,
)

if TYPE_CHECKING:
    from schemathesis import Case, Response
    from schemathesis.schemas import BaseSchema

    from tests.gateway.jobs import Jobs
    from tests.support.service import Service

OPERATIONS = [
    "POST /transcribe",
    "GET /status/{task_id}",
    "GET /events/{task_id}",
    "GET /download/{task_id}",
    "POST /cancel/{task_id}",
    "DELETE /release/{task_id}",
    "GET /jobs",
    "GET /queue",
    "GET /usage",
    "GET /health/live",
]
UNREADY = ["GET /health/ready", "GET /gpus"]  # 503 without workers
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
    use_after_free,
]
SHAPES = [status_code_conformance, content_type_conformance, response_schema_conformance]
SAME_EACH_TIME = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=150,
    suppress_health_check=list(HealthCheck),
)
IN_SEQUENCE = settings(SAME_EACH_TIME, max_examples=50, stateful_step_count=8)
ANSWER_S = 20.0


@pytest.fixture
def schema(served: Service) -> BaseSchema:
    return schemathesis.openapi.from_url(f"http://127.0.0.1:{served.port}/openapi.json")


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_answers_as_it_says(
    operation: str, schema: BaseSchema, served: Service, jobs: Jobs
) -> None:
    """Of the jobs that it is asked for, some are there: completed, failed, cancelled, gone."""
    method, path = operation.split()
    ids = [jobs.complete(), jobs.fail(), jobs.wait(), jobs.wait()]
    served.http.post(f"/cancel/{ids[2]}")
    served.http.delete(f"/release/{ids[3]}")
    if method == "DELETE":  # the others would not stay
        ids = ids[3:]

    @SAME_EACH_TIME
    @given(case=schema[path][method].as_strategy(), task_id=st.none() | st.sampled_from(ids))
    def answers_as_it_says(case: Case, task_id: str | None) -> None:
        if task_id is not None and "{task_id}" in path:
            case.path_parameters = {"task_id": task_id}
        case.call_and_validate(checks=CHECKS, timeout=ANSWER_S)

    answers_as_it_says()


def test_jobs_are_followed_by_the_links_of_the_answers(schema: BaseSchema, jobs: Jobs) -> None:
    """Submit, look, fetch, cancel and release in any order, on an empty service each time."""
    followed = schema.exclude(path="/events/{task_id}")  # the stream of a waiting job has no end
    answers = Counter[str]()

    class Machine(followed.as_state_machine()):  # type: ignore[misc]  # made at run time
        def setup(self) -> None:
            jobs.client.flushall()

        def before_call(self, case: Case) -> None:
            if isinstance(case.query.get("wait_s"), int | float):
                case.query["wait_s"] = min(case.query["wait_s"], 0)  # nothing changes: it would wait in vain

        def get_call_kwargs(self, case: Case) -> dict[str, Any]:
            return {"timeout": ANSWER_S}

        def validate_response(self, response: Response, case: Case, **_: Any) -> None:
            unready = f"{case.method} {case.path}" in UNREADY
            case.validate_response(response, checks=SHAPES if unready else CHECKS)
            answers[f"{case.method} {case.path} {response.status_code}"] += 1

    Machine.run(settings=IN_SEQUENCE)
    assert {"GET /status/{task_id} 200", "POST /cancel/{task_id} 200"} <= set(answers)
    assert {"DELETE /release/{task_id} 204", "GET /download/{task_id} 409"} <= set(answers)


@pytest.mark.parametrize("operation", UNREADY)
def test_readiness_without_workers_has_the_shape_that_it_says(operation: str, schema: BaseSchema) -> None:
    method, path = operation.split()
    case = schema[path][method].Case()
    assert case.call_and_validate(checks=SHAPES, timeout=ANSWER_S).status_code == 503


def test_every_operation_is_looked_at(schema: BaseSchema) -> None:
    operations = [found.ok() for found in schema.get_all_operations()]
    found = {f"{operation.method.upper()} {operation.path}" for operation in operations}
    assert found == {*OPERATIONS, *UNREADY}
