"""The original's only class: ten steps, topics, two texts."""

from __future__ import annotations

from typing import Any

from standin_orders import say

from .config import TranscriberConfig
from .steps import (
    clear_cache_directory,
    compress_transcript,
    correct_transcript,
    create_speaker_map,
    extract_nouns,
    find_introductions,
    format_markdown,
    format_transcript,
    identify_speakers,
    initial_transcription,
    load_text_file,
    map_speakers,
    merge_transcript_diarization,
    merge_transcript_segments,
    prepare_and_generate_headlines,
    prepare_and_generate_summary,
    segment_topics,
)
from .steps.caching import get_cache_file, load_object_file
from .steps.format import EXTENSION_MARKDOWN
from .steps.topic_segmentation import EXTENSION_TOPICS


class VideoTranscriber:
    def __init__(self, topic_config: Any = None, config: TranscriberConfig | None = None) -> None:
        self.topic_config = topic_config
        self.config = config if config is not None else TranscriberConfig.from_env()

    def transcribe_video(self, video_path: str, transcribe: bool = True) -> tuple[Any, Any]:
        told = self.config
        if transcribe:
            say("Step 1: Initial transcription")
            raw = initial_transcription(video_path, config=told.transcription)
        else:
            raw = load_object_file(get_cache_file(video_path, ".raw_transcript"))
        say("Step 2: Merge Sentences")
        sentences = merge_transcript_segments(video_path, raw, config=told.merge_sentences)
        say("Step 3: Entity extraction")
        nouns = extract_nouns(video_path, sentences, config=told.entities, llm_config=told.llm)
        say("Step 4: Transcript correction")
        corrected = correct_transcript(video_path, sentences, nouns, config=told.standardize)
        say("Step 5: Diarization / Speaker identification")
        turns = identify_speakers(video_path, corrected, config=told.diarization)
        say("Step 6: Merge transcript and diarization")
        merged = merge_transcript_diarization(video_path, corrected, turns)
        say("Step 7: Compress merged transcript")
        compressed = compress_transcript(video_path, merged)
        say("Step 8: Filter transcript by speaker introductions")
        introductions = find_introductions(video_path, raw, config=told.introductions)
        say("Step 9: Extract persons from introductions")
        names = create_speaker_map(video_path, introductions, turns, config=told.introductions)
        say("Step 10: Map speaker names")
        return map_speakers(video_path, compressed, names), nouns

    def topics(self, video_path: str, transcript: Any, max_topics: int) -> tuple[Any, Any, Any]:
        if not self.topic_config:
            return transcript, [], []
        with_topics = segment_topics(video_path, transcript, self.topic_config, max_topics)
        asks = {"config": self.config.topic, "llm_config": self.config.llm}
        headlines = prepare_and_generate_headlines(video_path, with_topics, **asks)
        return with_topics, headlines, prepare_and_generate_summary(video_path, with_topics, **asks)

    def format_transcript(
        self, video_path: str, transcript: Any, nouns_list: Any, topic_headlines: Any, topic_summary: Any
    ) -> None:
        format_transcript(video_path, transcript)
        format_markdown(video_path, transcript, nouns_list, topic_headlines, topic_summary)

    def retrieve_json(self, video_path: str) -> str | None:
        return load_text_file(get_cache_file(video_path, EXTENSION_TOPICS))

    def retrieve_markdown(self, video_path: str) -> str | None:
        return load_text_file(get_cache_file(video_path, EXTENSION_MARKDOWN))

    def clear(self, video_path: str) -> None:
        clear_cache_directory(video_path)
