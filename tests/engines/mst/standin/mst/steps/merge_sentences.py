"""Step 2: glues segments together (D6), drifts (D7), collapses sentences that share a segment (D8)."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import accumulate
from typing import Any

import spacy
from standin_orders import asked

from mst.config import MergeSentencesConfig

from .caching import cached_file_object


def _concatenate_transcripts(segments: list[dict[str, Any]]) -> str:
    return "".join(segment["transcript"] for segment in segments)


def _tokenize_into_sentences(full_text: str, nlp: Any) -> list[str]:
    return [sentence.text.strip() for sentence in nlp(full_text).sents]


def _compute_cumulative_lengths(segments: list[dict[str, Any]]) -> list[int]:
    return list(accumulate((len(segment["transcript"]) for segment in segments), initial=0))


def _map_sentences_to_segments(
    sentences: list[str], segments: list[dict[str, Any]], cumulative_lengths: list[int]
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    at, free_s = 0, 0.0
    for sentence in sentences:
        first = bisect_right(cumulative_lengths, at) - 1
        at += len(sentence)
        last = bisect_left(cumulative_lengths, at) - 1
        if not 0 <= first < len(segments) or not 0 <= last < len(segments):
            continue
        start_s = segments[first]["start"]
        if start_s < free_s:
            start_s = (start_s + free_s) / 2
            if rows and start_s < rows[-1]["end"]:
                rows[-1]["end"] = start_s
        free_s = segments[last]["end"]
        rows.append({"start": start_s, "end": free_s, "transcript": sentence})
    return rows


@cached_file_object(".sentence_merge")
def merge_transcript_segments(
    video_path: str, segments: Any, config: MergeSentencesConfig | None = None
) -> list[dict[str, Any]]:
    asked("merge_transcript_segments")
    if not segments:
        return []
    nlp = spacy.load((config or MergeSentencesConfig()).spacy_model)
    if "sentencizer" not in nlp.pipe_names:
        nlp.add_pipe("sentencizer")
    sentences = _tokenize_into_sentences(_concatenate_transcripts(segments), nlp)
    return _map_sentences_to_segments(sentences, segments, _compute_cumulative_lengths(segments))
