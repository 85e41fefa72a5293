"""Embeddings of Ollama, over one client for ever (D19)."""

from typing import Any

from ollama import AsyncClient

from .embeddings import Embeddings

_global_ollama_client: Any = None


def get_ollama_async_client_instance(embeddings_endpoint: str) -> Any:
    global _global_ollama_client  # noqa: PLW0603  the defect D19
    _global_ollama_client = _global_ollama_client or AsyncClient(host=embeddings_endpoint)
    return _global_ollama_client


async def ollama_embeddings(config: Embeddings, chunks: list[str]) -> Any:
    client = get_ollama_async_client_instance(config.endpoint)
    return (await client.embed(model=config.model, input=chunks))["embeddings"]
