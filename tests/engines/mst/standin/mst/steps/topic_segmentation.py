"""Topics, their headlines and summaries. What fails becomes text (D15), or a TypeError (D16)."""

from __future__ import annotations

from typing import Any

from standin_orders import asked, say
from treeseg import TreeSeg

from mst.config import LLMConfig, TopicConfig

from .caching import cached_file_object
from .llm_client import get_llm_client

EXTENSION_TOPICS = ".topics"


def _generate_topic_outputs(
    video_path: str,
    grouped_topic_texts: list[str],
    llm_prompt_template: str,
    topic_model: str = "glm-4.7-flash",
    llm_config: LLMConfig | None = None,
) -> list[str]:
    outputs = []
    for number, text in enumerate(grouped_topic_texts):
        if not text.strip():
            outputs.append("")
            continue
        say(f"Generating LLM output for topic {number}...")
        try:
            prompt = f"{llm_prompt_template}\n\nTranscript section:\n{text}"
            answer = get_llm_client(llm_config).chat(
                model=topic_model, messages=[{"role": "user", "content": prompt}]
            )
            outputs.append(answer.strip())
            say(f"Generated LLM output for topic {number}: {outputs[-1]}")
        except Exception as exc:  # noqa: BLE001  the defects D15 and D28
            say(f"Error generating LLM output for topic {number}: {exc}")
            outputs.append(f"Error: Could not generate LLM output for topic {number}")
    return outputs


def _create_outputs_from_transcript_topics(
    video_path: str,
    updated_transcript_with_topics: Any,
    llm_prompt: str,
    topic_model: str = "glm-4.7-flash",
    llm_config: LLMConfig | None = None,
) -> list[str] | None:
    rows = [row for row in updated_transcript_with_topics or [] if row.get("topic") is not None]
    if not rows:
        say("No topics found in transcript, skipping LLM output generation.")
        return None
    texts: list[list[str]] = [[] for _ in range(max(row["topic"] for row in rows) + 1)]
    for row in rows:
        texts[row["topic"]].append(row["transcript"])
    joined = [" ".join(text) for text in texts]
    return _generate_topic_outputs(video_path, joined, llm_prompt, topic_model, llm_config)


@cached_file_object(".topic_headlines")
def prepare_and_generate_headlines(
    video_path: str,
    updated_transcript_with_topics: Any,
    config: TopicConfig | None = None,
    llm_config: LLMConfig | None = None,
) -> Any:
    asked("prepare_and_generate_headlines")
    told = config or TopicConfig()
    return _create_outputs_from_transcript_topics(
        video_path, updated_transcript_with_topics, told.headline_prompt, told.topic_model, llm_config
    )


@cached_file_object(".topic_summary")
def prepare_and_generate_summary(
    video_path: str,
    updated_transcript_with_topics: Any,
    config: TopicConfig | None = None,
    llm_config: LLMConfig | None = None,
) -> Any:
    asked("prepare_and_generate_summary")
    told = config or TopicConfig()
    return _create_outputs_from_transcript_topics(
        video_path, updated_transcript_with_topics, told.summary_prompt, told.topic_model, llm_config
    )


@cached_file_object(EXTENSION_TOPICS)
def segment_topics(video_path: str, entries: Any, config: Any, max_segments: int) -> Any:
    asked("segment_topics")
    segments = TreeSeg(configs=config, entries=entries).segment_meeting(max_segments)
    return update_transcript_with_topics(entries, segments)


def update_transcript_with_topics(transcript: Any, topic_transitions: Any) -> Any:
    if len(transcript) != len(topic_transitions):
        raise ValueError("Length of transcript and topic_transitions must match")
    topic = 0
    for row, opens in zip(transcript, topic_transitions, strict=True):
        topic += opens == 1
        row["topic"] = topic
    return transcript
