"""mst's steps for one recording, one after the other. Each fails for itself alone.

    transcribe    Whisper, by our windowed engine        diarize        pyannote
    sentences     spaCy                                  introductions  SetFit
    entities      GLiNER, and the language model         speakers       whose name is whose
    correct       SentenceTransformer                    topics         treeseg
                                                         headlines, summaries   the language model

mst's own pipeline (VideoTranscriber) is not used: it has no place to look at a step's result, to keep it, or
to stop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from worker.engines.mst import correction, entities, sentences, speakers, stock, topics
from worker.engines.mst.config import model_id
from worker.engines.mst.plan import (
    CORRECT,
    DIARIZE,
    ENTITIES,
    HEADLINES,
    INTRODUCTIONS,
    SENTENCES,
    SPEAKERS,
    SUMMARIES,
    TOPICS,
)
from worker.engines.mst.rows import Row, in_order
from worker.engines.protocol import Entity, Segment, Topic

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from worker.engines.mst.config import MstConfig
    from worker.engines.mst.entities import Found, Grouped
    from worker.engines.mst.language_model import LanguageModel
    from worker.engines.mst.loading import Models
    from worker.engines.mst.speakers import Turn
    from worker.engines.mst.work import Work

ENCODED_AT_ONCE = 256  # texts
NAMES = ("Person", "Locations", "Organizations")  # entities whose words have one spelling


@dataclass
class Pipeline:
    """One job's steps behind the transcription. ``most_topics`` is 1 or more."""

    config: MstConfig
    models: Models
    llm: LanguageModel
    work: Work
    recording: Path
    duration_s: float
    most_topics: int

    def run(self, heard: list[Row]) -> tuple[list[Segment], list[Topic], list[Entity]]:
        """``heard`` are Whisper's segments, one at least."""
        rows = self.to_sentences(heard)
        found = self.find_entities(rows)
        grouped = self.group_entities(found)
        rows = self.correct(rows, grouped)
        named = rows
        if DIARIZE in self.work.plan:
            turns = self.diarize()
            if turns:
                named = self.work.tolerate(
                    lambda: self.name_speakers(rows, found, turns), rows, "speakers could not be named"
                )
        numbers: list[int] = []
        titles: list[Topic] = []
        if TOPICS in self.work.plan:
            numbers = self.split(named)
            titles = self.describe(topics.texts_of(named, numbers)) if numbers else []
        return _segments(named, numbers), titles, _entities(grouped)

    def to_sentences(self, heard: list[Row]) -> list[Row]:
        self.work.enter(SENTENCES)
        name = model_id(self.config.sentence_model)

        def ours() -> list[Row]:
            return sentences.to_sentences(heard, self.models.sentences, self.duration_s)

        def as_mst() -> list[Row]:
            raw = stock.raw_transcript(heard, self.models)
            return in_order(stock.to_sentences(raw, self.models), self.duration_s)

        return self.work.tolerate(
            lambda: self._kept("sentences", [heard, name], as_mst if self.config.stock else ours),
            in_order(heard, self.duration_s),
            "the text could not be parted into sentences",
        )

    def find_entities(self, rows: list[Row]) -> list[Found]:
        self.work.enter(ENTITIES)
        depends_on = [rows, model_id(self.config.entity_model), self.config.entity_threshold]
        return self.work.tolerate(
            lambda: self._kept(
                "entities", depends_on, lambda: entities.find(rows, self.models, self.work.tell)
            ),
            [[] for _ in rows],
            "names, places and dates could not be found",
        )

    def group_entities(self, found: list[Found]) -> Grouped:
        grouped: Grouped = self.work.tolerate(
            lambda: entities.group(found, self.models), {}, "names, places and dates could not be listed"
        )
        if not self.llm.is_there or not grouped.get(entities.PERSON):
            return grouped
        depends_on = [grouped, self.config.similar_names_model, self.config.llm.provider]
        return self.work.tolerate(
            lambda: self._kept(
                "spellings", depends_on, lambda: entities.unite_spellings(grouped, self.models, self.llm)
            ),
            grouped,
            "spellings of names could not be united",
        )

    def correct(self, rows: list[Row], grouped: Grouped) -> list[Row]:
        self.work.enter(CORRECT)
        if not grouped:  # nothing to correct by; mst fails here
            return rows
        names = sorted({one["text"] for label in NAMES for one in grouped.get(label, [])})
        threshold = self.models.config.standardize.similarity_threshold

        def ours() -> list[Row]:
            return correction.correct(rows, names, self._encode, threshold)

        def as_mst() -> list[Row]:
            return stock.correct(rows, grouped, self.models, self._encode)

        depends_on = [rows, grouped, model_id(self.config.correction_model)]
        return self.work.tolerate(
            lambda: self._kept("corrected", depends_on, as_mst if self.config.stock else ours),
            rows,
            "misspelt names could not be corrected",
        )

    def diarize(self) -> list[Turn] | None:
        """None where it failed."""
        self.work.enter(DIARIZE)

        def heard() -> list[Turn]:
            return speakers.hear_turns(self.recording, self.models.diarization, self.work.tell)

        turns = self.work.tolerate(
            lambda: self._kept("turns", [model_id(self.config.diarization_model)], heard),
            None,
            "speakers could not be told apart",
        )
        return None if turns is None else [(start, end, who) for start, end, who in turns]

    def name_speakers(self, rows: list[Row], found: list[Found], turns: list[Turn]) -> list[Row]:
        """Rows with their speakers, by name where one was given."""
        parted = speakers.assign(rows, turns)
        introduces = self.find_introductions(parted)
        self.work.enter(SPEAKERS)
        names = speakers.names_of(parted, introduces, found)
        if self.config.stock:
            kept = stock.turns_kept(turns, self.models)
            parted = in_order(stock.assign(rows, kept, self.models), self.duration_s)
        return [
            {**row, "speaker": names.get(who, who) if (who := row.get("speaker")) else who} for row in parted
        ]

    def find_introductions(self, rows: list[Row]) -> list[bool]:
        self.work.enter(INTRODUCTIONS)
        texts = [row["transcript"] for row in rows]
        return self.work.tolerate(
            lambda: self._kept(
                "introductions",
                [texts, model_id(self.config.introduction_model)],
                lambda: speakers.find_introductions(rows, self.models),
            ),
            [False] * len(rows),
            "introductions could not be found, so that speakers have no names",
        )

    def split(self, rows: list[Row]) -> list[int]:
        """Each row's topic; none where they could not be found."""
        self.work.enter(TOPICS)
        least = self.config.min_topic_sentences
        if self.most_topics > 1 and len(rows) < 2 * least:
            self.work.warn("too_short_for_topics", f"fewer than {2 * least} sentences are one topic")
        by = (
            [self.config.llm.provider, self.config.embedding_model]
            if self.config.embedding_model
            else model_id(self.config.correction_model)
        )
        depends_on = [rows, self.most_topics, least, by]
        return self.work.tolerate(
            lambda: self._kept(
                "topics",
                depends_on,
                lambda: topics.split(rows, self.most_topics, least, self.models, self._embed),
            ),
            [],
            "topics could not be found",
        )

    def describe(self, texts: list[str]) -> list[Topic]:
        headlines = self._told(HEADLINES, texts, topics.ask_headline, topics.first_words)
        summaries = self._told(SUMMARIES, texts, topics.ask_summary, lambda _: "")
        return [Topic(*pair) for pair in zip(headlines, summaries, strict=True)]

    def _told(
        self,
        step: str,
        texts: list[str],
        ask: Callable[[str, Models, LanguageModel], str],
        without: Callable[[str], str],
    ) -> list[str]:
        """Of each topic, what the language model says, or what there is without it."""
        self.work.enter(step)
        if not self.llm.is_there:
            return [without(text) for text in texts]
        told: list[str] = []
        for number, text in enumerate(texts):
            told.append(self._told_of(f"{step}-{number}", text, ask, without))
            self.work.progress((number + 1) / len(texts))
        return told

    def _told_of(
        self,
        name: str,
        text: str,
        ask: Callable[[str, Models, LanguageModel], str],
        without: Callable[[str], str],
    ) -> str:
        depends_on = [text, self.config.topic_model, self.config.llm.provider]
        return self.work.tolerate(
            lambda: self._kept(name, depends_on, lambda: ask(text, self.models, self.llm)),
            without(text),
            "the language model could not be asked",
        )

    def _kept(self, name: str, depends_on: Sequence[object], compute: Callable[[], Any]) -> Any:
        return self.work.kept(name, [self.config.stock, *depends_on], compute)

    def _encode(self, texts: list[str]) -> Any:
        """Vectors by the worker's own model, in batches between which the step can be stopped."""
        made = []
        for first in range(0, len(texts), ENCODED_AT_ONCE):
            self.work.tell(first / len(texts))
            some = texts[first : first + ENCODED_AT_ONCE]
            made.append(np.asarray(self.models.words.encode(some, batch_size=self.models.batch)))
        return np.concatenate(made)

    def _embed(self, texts: list[str]) -> list[Any]:
        if self.config.embedding_model:
            return self.llm.embed(self.config.embedding_model, texts)
        return list(self._encode(texts))


def _segments(rows: list[Row], numbers: list[int]) -> list[Segment]:
    topic_of: list[int | None] = [*numbers] if numbers else [None] * len(rows)
    return [
        Segment(row["start"], row["end"], row["transcript"], row.get("speaker"), topic)
        for row, topic in zip(rows, topic_of, strict=True)
    ]


def _entities(grouped: Grouped) -> list[Entity]:
    return [Entity(label, one["text"]) for label, some in grouped.items() for one in some]
