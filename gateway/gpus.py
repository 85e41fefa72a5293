"""GET /gpus: every worker and its device, with a verdict that a monitor can go by."""

import time

from fastapi import APIRouter, Response, status

from gateway.access import OperatorOf
from gateway.openapi import Responses, problems
from gateway.services import ServicesOf
from worker.gpu.report import read_reports
from worker.gpu.verdict import Colour, Fleet, judge_all

router = APIRouter(tags=["operator"])

RED: Responses = {503: {"model": Fleet, "description": "Service Unavailable: red; or broker_away."}}


@router.get("/gpus", responses=problems() | RED)
def read_gpus(response: Response, services: ServicesOf, _operator: OperatorOf) -> Fleet:
    """Every worker's device, job and admission; 503 where no worker can work. Needs an operator's key.

    Workers that fell silent are shown as lost for a day.
    """
    now = time.time()
    fleet = judge_all(read_reports(services.probe, now), now)
    if fleet.verdict.colour is Colour.RED:
        response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    return fleet
