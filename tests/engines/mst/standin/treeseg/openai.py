"""Embeddings of an OpenAI-compatible server."""

from typing import Any

import httpx
from standin_orders import asked

from .embeddings import Embeddings


async def openai_embeddings(config: Embeddings, chunks: list[str]) -> Any:
    asked("embed", texts=len(chunks))
    async with httpx.AsyncClient(headers=config.headers, timeout=30) as http:
        answer = await http.post(config.endpoint, json={"model": config.model, "input": chunks})
    if answer.status_code != 200:
        raise RuntimeError(f"EmbeddingRequestFailed: status={answer.status_code}, details={answer.text}")
    return [one["embedding"] for one in answer.json()["data"]]
