"""Names, places, dates: GLiNER's finds by sentence, and one spelling for each person.

mst passes over a failed batch and takes from the language model whatever it answers.
"""

from __future__ import annotations

from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from worker.engines.mst.failures import StepFailed
from worker.engines.mst.language_model import LanguageModelFailed
from worker.engines.mst.loading import swapped

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.engines.mst.language_model import LanguageModel
    from worker.engines.mst.loading import Models
    from worker.engines.mst.rows import Row

LABELS = ("Person", "Organizations", "Date", "Positions", "Locations")  # as mst asks for them
PERSON = "Person"
MOST_NAMES = 300  # that a language model is asked to look through
SAME_PERSON = 0.8  # of difflib's ratio
_NO_ENTITIES = frozenset({"somebody", "today"})  # mst means to leave them out, but lacks a comma

Found = list[list[str | float]]  # label, text and score of each find in one sentence
Grouped = dict[str, list[dict[str, Any]]]  # mst's: [{"text": ..., "score": ...}] by label


def find(rows: list[Row], models: Models, tell: Callable[[float], None]) -> list[Found]:
    """What GLiNER finds in each row."""
    entities = models.mst.entities
    # By mst's 100 sentences at a time, progress and cancelling wait for ten seconds on a CPU.
    batches = _Batches(models.entities, -(-len(rows) // models.batch), tell)
    with swapped(entities._entity_models, models.config.entities.gliner_model, batches):  # noqa: SLF001  its cache
        found = entities.extract_entities(
            list(LABELS), rows, batch_size=models.batch, config=models.config.entities
        )
    if batches.failure is not None:
        raise batches.failure
    if found is None or len(found) != len(rows):
        raise StepFailed("the model for entities gave no result for some sentences")
    return [[[one["label"], one["text"], float(one["score"])] for one in sentence] for sentence in found]


def group(found: list[Found], models: Models) -> Grouped:
    """Each text once, by label; pronouns and the like left out."""
    entities = models.mst.entities
    dicts = [[{"label": label, "text": text, "score": score} for label, text, score in one] for one in found]
    merged: Grouped = entities.merge_duplicate_texts(entities.group_by_label(dicts))
    kept = {
        label: [one for one in some if one["text"].lower() not in _NO_ENTITIES]
        for label, some in merged.items()
    }
    return {label: some for label, some in kept.items() if some}


def unite_spellings(grouped: Grouped, models: Models, llm: LanguageModel) -> Grouped:
    """One spelling for each person, as the language model sees it: of the names found, none lost.

    Raises LanguageModelFailed.
    """
    names = [one["text"] for one in grouped.get(PERSON, [])]
    if not 2 <= len(names) <= MOST_NAMES:  # noqa: PLR2004  nothing to unite
        return grouped
    chosen = _asked(grouped, models, llm)
    kept = [name for name in names if name in chosen]
    lost = [name for name in names if name not in chosen and not any(_same(name, one) for one in kept)]
    scores = {one["text"]: one for one in grouped[PERSON]}
    return {**grouped, PERSON: [scores[name] for name in names if name in kept or name in lost]}


def _asked(grouped: Grouped, models: Models, llm: LanguageModel) -> set[str]:
    client = _Client(llm)
    persons = {PERSON: list(grouped[PERSON])}
    entities = models.mst.entities
    with swapped(vars(entities), "get_llm_client", lambda _config=None: client):
        answered = entities.merge_similar_texts(persons, config=models.config.entities)
    return {one["text"] for one in answered[PERSON]}


def _same(one: str, other: str) -> bool:
    """Whether both may be one person: nearly the same letters, or a part of the name."""
    if set(one.lower().split()) <= set(other.lower().split()):
        return True
    letters = SequenceMatcher(None, one.lower(), other.lower(), autojunk=False)
    return letters.quick_ratio() >= SAME_PERSON and letters.ratio() >= SAME_PERSON


class _Batches:
    """Stands before GLiNER: tells of progress, and keeps the error that mst passes over."""

    def __init__(self, model: Any, count: int, tell: Callable[[float], None]) -> None:
        self._model = model
        self._count = count
        self._tell = tell
        self._done = 0
        self.failure: Exception | None = None

    def batch_predict_entities(self, texts: list[str], labels: list[str], **named: Any) -> Any:
        self._tell(self._done / self._count)
        self._done += 1
        if self.failure is not None:  # the result is lost already
            return None
        try:
            return self._model.batch_predict_entities(texts, labels, **named)
        except Exception as exc:
            self.failure = exc
            raise


class _Client:
    """mst's client of a language model, by ours."""

    def __init__(self, llm: LanguageModel) -> None:
        self._llm = llm

    def parse(self, model: str, messages: list[dict[str, str]], response_model: Any, **_: Any) -> Any:
        answer = self._llm.ask(model, messages, response_model.model_json_schema())
        try:
            return response_model.model_validate_json(answer)
        except ValidationError as exc:
            raise LanguageModelFailed("the language model's list of names is no JSON of that form") from exc
