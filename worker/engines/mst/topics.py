"""Where the subject changes, and a headline and a summary for each topic."""

from __future__ import annotations

import asyncio
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from worker.engines.mst.language_model import LanguageModelFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from worker.engines.mst.language_model import LanguageModel
    from worker.engines.mst.loading import Models
    from worker.engines.mst.rows import Row

NEIGHBOURS = 3  # sentences before each that are embedded with it, as mst's documentation advises
HEADLINE_CHARACTERS = 80
SUMMARY_CHARACTERS = 2000
LONGEST_HEADLINE = 200
# What mst and servers say where they fail.
_ERROR = re.compile(r"^\W*error\b", re.IGNORECASE)
_MARKUP = re.compile(r"^[#>*\-\s]+|(?<!\w)[*_`]{1,3}|[*_`]{1,3}(?!\w)")
_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")


def split(
    rows: list[Row], most: int, least: int, models: Models, embed: Callable[[list[str]], list[Any]]
) -> list[int]:
    """Each row's topic, from 0: at most ``most``, each of ``least`` rows or more.

    Raises what ``embed`` raises.
    """
    if most <= 1 or len(rows) < 2 * least:
        return [0] * len(rows)
    embedding = _Embedding(embed)
    settings = {
        "MIN_SEGMENT_SIZE": least,
        "LAMBDA_BALANCE": 0,
        "UTTERANCE_EXPANSION_WIDTH": NEIGHBOURS,
        "TEXT_KEY": "transcript",
        "EMBEDDINGS": embedding,
    }
    texts = [{"transcript": row["transcript"]} for row in rows]
    with _own_loop():
        try:
            topics = models.mst.topics.segment_topics("", texts, settings, most)
        except Exception as exc:
            if embedding.failure is None:
                raise
            # treeseg has dropped it, and stumbled over what is missing.
            raise embedding.failure from exc
    return [int(row["topic"]) for row in topics]


class _NoEmbeddings(Exception):
    pass


class _Embedding:
    """What treeseg takes for its fetcher of embeddings."""

    def __init__(self, embed: Callable[[list[str]], list[Any]]) -> None:
        self._embed = embed
        self.failure: Exception | None = None

    async def embeddings_func(self, _: object, texts: list[str]) -> list[Any]:
        if self.failure is not None:  # treeseg tries six times, at once
            raise _NoEmbeddings
        try:
            return self._embed(texts)
        except Exception as exc:  # noqa: BLE001  raised again by split
            self.failure = exc
        raise _NoEmbeddings  # treeseg logs the error's text, which may hold what was said


@contextmanager
def _own_loop() -> Iterator[None]:
    """Treeseg takes the thread's event loop; a thread has none of its own."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        yield
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def texts_of(rows: list[Row], topics: list[int]) -> list[str]:
    """What is said in each topic."""
    said: list[list[str]] = [[] for _ in range(max(topics, default=-1) + 1)]
    for row, topic in zip(rows, topics, strict=True):
        said[topic].append(row["transcript"])
    return [" ".join(texts) for texts in said]


def ask_headline(text: str, models: Models, llm: LanguageModel) -> str:
    """One line. Raises LanguageModelFailed."""
    answer = _ask(models.config.topic.headline_prompt, text, models, llm)
    lines = [line for line in map(_plain, answer.splitlines()) if line]
    if not lines:
        raise LanguageModelFailed("the language model gave an empty headline")
    is_preface = lines[0].endswith(":") and len(lines) > 1
    return lines[is_preface][:LONGEST_HEADLINE]


def ask_summary(text: str, models: Models, llm: LanguageModel) -> str:
    """Raises LanguageModelFailed."""
    answer = _ask(models.config.topic.summary_prompt, text, models, llm)
    summary = " ".join(line for line in map(_plain, answer.splitlines()) if line)
    if not summary:
        raise LanguageModelFailed("the language model gave an empty summary")
    return summary[:SUMMARY_CHARACTERS]


def _ask(prompt: str, text: str, models: Models, llm: LanguageModel) -> str:
    question = f"{prompt}\n\nTranscript section:\n{text}"  # as mst asks
    answer = llm.ask(models.config.topic.topic_model, [{"role": "user", "content": question}])
    if _ERROR.match(answer):
        raise LanguageModelFailed("the language model answered with an error")
    return answer


def _plain(line: str) -> str:
    return " ".join(_MARKUP.sub("", _LINK.sub(r"\1", line)).split()).strip('"“”')


def first_words(text: str) -> str:
    """A headline where no language model gives one: how the topic begins."""
    if len(text) <= HEADLINE_CHARACTERS:
        return text
    begin = text[:HEADLINE_CHARACTERS]
    return (begin.rpartition(" ")[0] or begin).rstrip(" ,;:-") + " …"
