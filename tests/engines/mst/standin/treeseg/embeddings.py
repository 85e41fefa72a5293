"""How embeddings are fetched."""

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel


class Embeddings(BaseModel):
    embeddings_func: Callable[[BaseModel, list[Any]], Any]
    headers: dict[str, str] = {}
    model: str
    endpoint: str
