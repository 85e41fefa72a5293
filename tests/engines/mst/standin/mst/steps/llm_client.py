"""The language model, by OpenAI's protocol or Ollama's; a new client for every call."""

from __future__ import annotations

from typing import Any

from ollama import chat as ollama_chat
from openai import OpenAI

from mst.config import LLMConfig


class LLMClient:
    pass


class OllamaClient(LLMClient):
    def chat(self, model: str, messages: list[dict[str, Any]], **kwargs: Any) -> Any:
        return ollama_chat(model=model, messages=messages, **kwargs).message.content

    def parse(self, model: str, messages: list[dict[str, Any]], response_model: Any, **kwargs: Any) -> Any:
        schema = response_model.model_json_schema()
        answer = ollama_chat(model=model, messages=messages, format=schema, **kwargs)
        return response_model.model_validate_json(answer.message.content)


class OpenAIClient(LLMClient):
    def __init__(self, base_url: str, api_key: str) -> None:
        self._client = OpenAI(base_url=base_url, api_key=api_key)

    def chat(self, model: str, messages: list[dict[str, Any]], **kwargs: Any) -> Any:
        answer = self._client.chat.completions.create(model=model, messages=messages, **kwargs)
        content = answer.choices[0].message.content
        if content is None:
            raise ValueError("LLM returned None content")
        return content

    def parse(self, model: str, messages: list[dict[str, Any]], response_model: Any, **kwargs: Any) -> Any:
        answer = self._client.beta.chat.completions.parse(
            model=model, messages=messages, response_format=response_model, **kwargs
        )
        parsed = answer.choices[0].message.parsed
        if parsed is None:
            raise ValueError("LLM structured output returned None")
        return parsed


def get_llm_client(config: LLMConfig | None = None) -> Any:
    told = config or LLMConfig()
    return (
        OllamaClient()
        if told.provider == "ollama"
        else OpenAIClient(told.openai_base_url, told.openai_api_key)
    )
