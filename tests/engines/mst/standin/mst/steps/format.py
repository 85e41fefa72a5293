"""The two texts. One topic has no heading (D20); any error gives JSON for Markdown (D20)."""

from __future__ import annotations

import json
import re
from typing import Any

from standin_orders import asked, say

from .caching import cached_file

EXTENSION_MARKDOWN = ".md"


@cached_file(".formatted")
def format_transcript(video_path: str, transcripts: Any) -> str:
    asked("format_transcript")
    lines = (f"{row['speaker_name']}:{row['transcript']}\n" for row in transcripts)
    return "# Transcribed Video\n\n" + "".join(lines)


def _create_anchor_link(subheading: str) -> str:
    words = re.sub(r"[^\w\s-]", "", subheading).split()
    return "-".join(words).lower()


@cached_file(EXTENSION_MARKDOWN)
def format_markdown(
    video_path: str, transcripts: Any, nouns_list: Any, topic_headlines: Any, topic_summary: Any
) -> str:
    asked("format_markdown")
    try:
        contents, topic = _own_contents(transcripts, topic_headlines, topic_summary)
        text = _own_text(transcripts, topic_headlines, topic)
        head = f"# Transcribed Video\n\n# Table of Content\n{contents}\n# Transcript\n"
        return head + text + _own_nouns(nouns_list)
    except Exception as exc:  # noqa: BLE001  the defect D20
        say(f"Error formatting transcript: {exc}")
        return json.dumps(transcripts, indent=2)


def _own_contents(rows: Any, headlines: Any, summaries: Any) -> tuple[str, Any]:
    topic, made = None, ""
    for row in rows:
        if row.get("topic") != topic:
            topic = row.get("topic")
            link = _create_anchor_link(headlines[topic])
            made += f"\n- [{headlines[topic]}](#{link})   ({row.get('start')})\n\n\t{summaries[topic]}\n"
    return made, topic


def _own_text(rows: Any, headlines: Any, topic: Any) -> str:
    """``topic`` is still the contents' last one: D20."""
    speaker, made = None, ""
    for row in rows:
        name, start = row.get("speaker_name", "UNKNOWN"), row.get("start")
        if row.get("topic") != topic:
            topic = row.get("topic")
            made += f"\n\n## {headlines[topic]}\n### {name} ({start})\n"
        if name != speaker:
            speaker = name
            made += f"\n### {name} ({start})\n"
        made += f"- {row.get('transcript', '[TRANSCRIPT MISSING]')}\n"
    return made


def _own_nouns(nouns: Any) -> str:
    made = "\n#Appendix: List of Entities\n"
    for label in nouns:
        if label != "Date":
            made += f"### {label}\n" + "".join(f"- {noun['text']}\n" for noun in nouns[label])
    return made
