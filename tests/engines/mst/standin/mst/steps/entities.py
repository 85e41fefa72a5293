"""Step 3: names, places, dates. A failed batch is passed over; the language model is trusted (D14)."""

from __future__ import annotations

from typing import Any

from gliner import GLiNER
from standin_orders import asked, say

from mst.config import EntityConfig, LLMConfig

from .caching import cached_file_object
from .llm_client import get_llm_client
from .models import NounList

_entity_models: dict[str, Any] = {}
_NO_NAMES = {"he", "she", "i", "me", "her", "him", "they", "we", "us", "one", "you", "tonight", "yesterday"}
_NO_NAMES |= {"tomorrow", "this year", "last month", "last year"}
_NO_NAMES.add("somebodytoday")  # one word: D24


def get_entity_model(model_name: str = "urchade/gliner_medium-v2.1") -> Any:
    if model_name not in _entity_models:
        _entity_models[model_name] = GLiNER.from_pretrained(model_name)
    return _entity_models[model_name]


def group_by_label(data: list[list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    grouped: dict[str, list[dict[str, Any]]] = {}
    for one in (entity for sentence in data for entity in sentence if isinstance(entity, dict)):
        grouped.setdefault(one["label"], []).append({"text": one["text"], "score": one["score"]})
    return grouped


def merge_duplicate_texts(data: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    return {label: _own_best(entries) for label, entries in data.items()}


def _own_best(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    scores: dict[str, float] = {}
    for entry in entries:
        if entry["text"].lower() not in _NO_NAMES:
            scores[entry["text"]] = max(entry["score"], scores.get(entry["text"], 0))
    return [{"text": text, "score": score} for text, score in scores.items()]


def merge_similar_texts(
    data: dict[str, list[dict[str, Any]]],
    config: EntityConfig | None = None,
    llm_config: LLMConfig | None = None,
) -> dict[str, list[dict[str, Any]]]:
    asked("merge_similar_texts")
    for label in data:
        say(label)
    if "Person" in data:
        listed = "".join(f"\n- {entity['text']}" for entity in data["Person"])
        answer = get_llm_client(llm_config).parse(
            model=(config or EntityConfig()).similar_names_model,
            messages=[
                {"role": "system", "content": "Answer in JSON with one key, nouns."},
                {"role": "user", "content": f"Reduce these names to one spelling for each person:\n{listed}"},
            ],
            response_model=NounList,
        )
        data["Person"] = [{"text": text} for text in answer.nouns]
    return data


def extract_entities(
    labels: list[str],
    transcript: Any,
    batch_size: int = 100,
    threshold: float = 0.65,
    config: EntityConfig | None = None,
) -> list[Any] | None:
    if not transcript:
        say("Warning: Empty transcript provided.")
        return []
    told = config or EntityConfig()
    try:
        model = get_entity_model(told.gliner_model)
    except Exception as exc:  # noqa: BLE001  as the original: the caller gets None
        say(f"Critical error during entity extraction setup or loop initiation: {exc}")
        return None
    sentences = [item["transcript"] for item in transcript if item.get("transcript")]
    found: list[Any] = []
    count = -(-len(sentences) // batch_size)
    for number in range(1, count + 1):
        first, last = (number - 1) * batch_size, min(number * batch_size, len(sentences))
        say(f"  Processing batch {number}/{count} (sentences {first + 1}-{last})...")
        try:
            # The threshold that was passed is left aside: D24.
            found += model.batch_predict_entities(
                sentences[first:last], labels, threshold=told.entity_threshold
            )
        except Exception as exc:  # noqa: BLE001  as the original: the batch is passed over
            say(f"Error processing batch {number} (sentences {first + 1}-{last}): {exc}")
    say(f"Finished processing all batches. Total entities found: {len(found)}")
    return found


@cached_file_object(".entities")
def extract_nouns(
    video_path: str,
    transcript: Any,
    config: EntityConfig | None = None,
    llm_config: LLMConfig | None = None,
) -> Any:
    asked("extract_nouns")
    labels = ["Person", "Organizations", "Date", "Positions", "Locations"]
    entities: Any = extract_entities(labels, transcript, config=config)
    merged = merge_duplicate_texts(group_by_label(entities))
    return merge_similar_texts(merged, config=config, llm_config=llm_config)


def extract_persons(introductions: Any) -> list[dict[str, Any]]:
    """Always the default model (D13); a row without a name shifts the names behind it (D12)."""
    if not introductions:
        return []
    entities: Any = extract_entities(["Person"], introductions)
    names = [row[0]["text"] for row in entities if row]
    return [row | {"speaker_name": name} for row, name in zip(introductions, names, strict=False)]
