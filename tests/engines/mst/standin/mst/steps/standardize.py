"""Step 4: each word that is near a name becomes the name, without its punctuation and case (D11)."""

from __future__ import annotations

from typing import Any

from sentence_transformers import SentenceTransformer, util
from standin_orders import asked, say

from mst.config import StandardizeConfig

from .caching import cached_file_object
from .helpers import flatten_texts

_noun_correction_models: dict[str, Any] = {}


def get_noun_correction_model(model_name: str = "paraphrase-MiniLM-L6-v2") -> Any:
    if model_name not in _noun_correction_models:
        _noun_correction_models[model_name] = SentenceTransformer(model_name)
    return _noun_correction_models[model_name]


def standardize_nouns_ai(
    transcript: list[dict[str, Any]], noun_list: list[str], config: StandardizeConfig | None = None
) -> list[dict[str, Any]]:
    told = config or StandardizeConfig()
    model = get_noun_correction_model(told.sentence_transformer_model)
    nouns = model.encode(noun_list, convert_to_tensor=True)

    def standard(word: str) -> str:
        if word.lower() in noun_list:
            return word
        near = util.cos_sim(model.encode(word.lower(), convert_to_tensor=True), nouns)[0]
        if near.max() <= told.similarity_threshold:
            return word
        name = noun_list[near.argmax()]
        return name.capitalize() if word[0].isupper() else name

    return [_own_with_text(row, standard) for row in transcript]


def _own_with_text(row: dict[str, Any], standard: Any) -> dict[str, Any]:
    text = row["transcript"]
    if text.strip():
        text = " ".join(standard(word) for word in text.split())
    return {"start": row["start"], "end": row["end"], "transcript": text}


@cached_file_object(".corrected_transcript")
def correct_transcript(
    video_path: str, raw_transcript: Any, nouns: Any, config: StandardizeConfig | None = None
) -> Any:
    asked("correct_transcript")
    try:
        return standardize_nouns_ai(raw_transcript, flatten_texts(nouns), config=config)
    except Exception as exc:  # noqa: BLE001  the defects D1 and D28
        say(f"Error correcting transcript: {exc}")
        return None
