"""docs/examples/kubernetes.yaml is what Kubernetes and KEDA take, and counts what is to be counted."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from worker.app import create_app
from worker.jobs import Priority
from worker.settings import Settings
from worker.streams.keys import GROUP, QueueKeys
from worker.tasks import TRANSCRIBE_QUEUE, publish

if TYPE_CHECKING:
    import redis

    from tests.support.redis_server import RedisServer

ROOT = Path(__file__).parents[2]
EXAMPLE = (ROOT / "docs/examples/kubernetes.yaml").read_text()
PARTS: list[dict[str, Any]] = list(yaml.safe_load_all(EXAMPLE))
KEYS = QueueKeys(TRANSCRIBE_QUEUE)
MINOR_RELEASES = ("1.30", "1.37")


def parts_of(kind: str) -> list[dict[str, Any]]:
    return [part for part in PARTS if part["kind"] == kind]


SCALED = parts_of("ScaledObject")[0]["spec"]


@pytest.mark.parametrize("release", MINOR_RELEASES)
def test_kubernetes_takes_each_part(release: str) -> None:
    ours = [part for part in PARTS if part["kind"] != "ScaledObject"]
    assert {part["kind"] for part in ours} == {"PersistentVolumeClaim", "Deployment", "Service"}
    for part in ours:
        kubernetes_validate.validate(part, release, strict=True)


def test_keda_takes_the_scaler() -> None:
    schema = json.loads((Path(__file__).parent / "scaledobject.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(parts_of("ScaledObject")[0], schema)


def test_its_parts_name_each_other() -> None:
    named = {(part["kind"], part["metadata"]["name"]) for part in PARTS}
    assert ("Deployment", SCALED["scaleTargetRef"]["name"]) in named
    claims = re.findall(r"claimName: (\S+?)}", EXAMPLE)
    assert {("PersistentVolumeClaim", claim) for claim in claims} <= named


def test_each_pod_may_do_little() -> None:
    for deployment in parts_of("Deployment"):
        pod = deployment["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            rights = container["securityContext"]
            assert rights["readOnlyRootFilesystem"] is True
            assert rights["allowPrivilegeEscalation"] is False
            assert rights["capabilities"] == {"drop": ["ALL"]}


def test_no_secret_is_in_it() -> None:
    for deployment in parts_of("Deployment"):
        for container in deployment["spec"]["template"]["spec"]["containers"]:
            assert container["envFrom"] == [{"secretRef": {"name": "transcription"}}]
            given = {one["name"]: one["value"] for one in container.get("env", [])}
            is_worker = container["name"] == "worker"
            emptied = {"API_KEYS", "WEBHOOK_SECRET"} if is_worker else set()
            assert {name for name, value in given.items() if not value} == emptied
            assert {name for name, value in given.items() if value} <= {"GATEWAY_HOST"}


def test_a_worker_may_drain_before_it_is_killed() -> None:
    worker = next(part for part in parts_of("Deployment") if part["metadata"]["name"].endswith("worker"))
    assert worker["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > Settings().drain_s


def test_the_scaler_sums_every_stream_that_workers_read() -> None:
    triggers = SCALED["triggers"]
    assert {trigger["metadata"]["stream"] for trigger in triggers} == set(KEYS.readable)
    formula = SCALED["advanced"]["scalingModifiers"]["formula"]
    assert sorted(formula.split(" + ")) == sorted(trigger["name"] for trigger in triggers)
    assert all("streamLength" in trigger["metadata"] for trigger in triggers)
    assert not any("consumerGroup" in trigger["metadata"] for trigger in triggers)  # KEDA would count by it


def test_a_streams_length_is_what_waits_and_runs_and_its_lag_is_not(
    redis_server: RedisServer, client: redis.Redis
) -> None:
    """Why the example counts by length (docs/operations.md#kubernetes)."""
    with create_app(Settings.model_validate({"redis_url": redis_server.url})) as app:
        for task_id in ("one", "two", "three"):
            publish(app, task_id, Priority.NORMAL)
    assert client.xlen(KEYS.main) == 3
    assert client.xinfo_groups(KEYS.main) == []  # before the first worker nobody could ask for the lag

    client.xgroup_create(KEYS.main, GROUP, id="0")
    (running, _), (waiting, _) = client.xreadgroup(GROUP, "w", {KEYS.main: ">"}, count=2)[KEYS.main][0]
    assert client.xlen(KEYS.main) == 3
    assert client.xinfo_groups(KEYS.main)[0]["lag"] == 1  # the running ones do not count

    client.xack(KEYS.main, GROUP, running, waiting)
    client.xdel(KEYS.main, running, waiting)
    publish(app, "four", Priority.NORMAL)
    client.xdel(KEYS.main, client.xrange(KEYS.main)[1][0])  # as the sweeper, of a job that was released
    assert (client.xlen(KEYS.main), client.xinfo_groups(KEYS.main)[0]["lag"]) == (1, None)
