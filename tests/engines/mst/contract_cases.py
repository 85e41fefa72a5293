"""Prints what the mst that can be imported makes of fixed inputs, as JSON: the real one, or the stand-in.

Models are replaced alike on both sides; what differs is mst's own code.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import io
import json
import random
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

MODULES = (
    "mst.config",
    "mst.video_transcriber",
    *(
        f"mst.steps.{name}"
        for name in (
            "caching",
            "diarization",
            "entities",
            "format",
            "helpers",
            "introductions",
            "llm_client",
            "merge_sentences",
            "models",
            "standardize",
            "topic_segmentation",
            "transcription",
        )
    ),
    "treeseg.embeddings",
    "treeseg.ollama",
    "treeseg.openai",
    "treeseg.treeseg",
)


def outcomes() -> dict[str, Any]:
    """What each case gave, or the error it ended with."""
    return {name: _outcome(case) for name, case in sorted(_cases().items())}


def signatures() -> dict[str, Any]:
    """The parameters' names and defaults of every function and class of the package's own, by dotted name."""
    found: dict[str, Any] = {}
    for module_name in MODULES:
        __import__(module_name)
        module = sys.modules[module_name]
        for name, value in vars(module).items():
            own = getattr(value, "__module__", "") == module_name and not name.startswith("_own_")
            if own and callable(value):
                found[f"{module_name}.{name}"] = _parameters(value)
                if inspect.isclass(value):
                    found |= _methods(f"{module_name}.{name}", value)
    return found


def fields() -> dict[str, dict[str, str]]:
    """Fields of the configuration and their defaults, but for the prompts' wording."""
    from mst import config  # noqa: PLC0415  the one that is importable now

    classes = {name: value for name, value in vars(config).items() if hasattr(value, "model_fields")}
    return {
        name: {
            field: "a prompt" if field.endswith("_prompt") else str(told.default)
            for field, told in value.model_fields.items()
        }
        for name, value in classes.items()
        if name != "BaseModel"
    }


def _methods(prefix: str, owner: type) -> dict[str, Any]:
    return {
        f"{prefix}.{name}": _parameters(value)
        for name, value in vars(owner).items()
        if inspect.isfunction(value) and (name == "__init__" or not name.startswith("_"))
    }


def _parameters(value: Any) -> list[str]:
    try:
        parameters = inspect.signature(value).parameters.values()
    except ValueError:
        return []
    return [_shown(one) for one in parameters]


def _shown(parameter: inspect.Parameter) -> str:
    """Without its annotation, and without the prompts' wording."""
    shown = str(parameter.replace(annotation=inspect.Parameter.empty))
    return parameter.name if parameter.name.endswith("_prompt") else shown


def _outcome(case: Callable[[], Any]) -> Any:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            return json.loads(json.dumps(case(), default=float))
        except Exception as exc:  # noqa: BLE001  an error is an outcome
            return f"{type(exc).__name__}: {str(exc)[:40]}"


def _cases() -> dict[str, Callable[[], Any]]:
    chance = random.Random(7)
    made: dict[str, Callable[[], Any]] = {}
    for number in range(60):
        said, turns = _rows(chance), _turns(chance)
        made[f"merge {number}"] = lambda said=said, turns=turns: _merged(said, turns)
    made |= {f"whisper {name}": lambda value=value: _whispered(value) for name, value in _WHISPERED.items()}
    made |= {f"sentences {name}": lambda value=value: _split(value) for name, value in _SPLIT.items()}
    made |= {f"turns {name}": lambda value=value: _diarized(value) for name, value in _TURNS.items()}
    made |= {f"names {name}": lambda value=value: _named(value) for name, value in _NAMED.items()}
    made |= {f"words {name}": lambda value=value: _corrected(value) for name, value in _CORRECTED.items()}
    made |= {f"intros {name}": lambda value=value: _introduced(value) for name, value in _INTRODUCED.items()}
    made |= {f"topics {size} {most}": lambda s=size, m=most: _topics(s, m) for size, most in _TOPICS}
    made |= {f"texts {name}": lambda value=value: _texts(*value) for name, value in _TEXTS.items()}
    made |= {f"llm {answer!r}": lambda answer=answer: _headlines(answer) for answer in _ANSWERS}
    made["cache without a path"] = _cached_without_a_path
    made["cache with a path"] = _cached_with_a_path
    made["embeddings down"] = lambda: _topics(12, 3, embed=_no_embeddings)
    made["embeddings in a running loop"] = lambda: asyncio.run(_topics_in_a_loop())
    made["equal losses"] = lambda: _topics(16, 9, vector=lambda at: [float(at < 8), float(at >= 8)])
    return made


def _rows(chance: random.Random) -> list[dict[str, Any]]:
    at, rows = 0.0, []
    for number in range(chance.randint(0, 6)):
        start = at + chance.choice([0, 0, 0.5, 2])
        at = start + chance.choice([0, 0.5, 1, 3])
        rows.append({"start": start, "end": at, "transcript": chance.choice(["No.", "Yes.", f"S{number}."])})
    return rows


def _turns(chance: random.Random) -> list[dict[str, Any]]:
    at, turns = 0.0, []
    for _ in range(chance.randint(0, 5)):
        start = at + chance.choice([0, 0, 0.25, 1.5])
        at = start + chance.choice([0.5, 1, 4])
        turns.append({"start": start, "end": at, "speaker": f"SPEAKER_0{chance.randint(0, 2)}"})
    return turns


def _merged(said: Any, turns: Any) -> Any:
    from mst.steps import helpers  # noqa: PLC0415

    merged = helpers.merge_transcript_diarization("", said, turns)
    compressed = helpers.compress_transcript("", merged)
    return merged, compressed, helpers.map_speakers("", compressed, {"SPEAKER_01": "Ann"})


_WHISPERED: dict[str, Any] = {
    "three": [(0, 1, " It was."), (1, 2, " It is."), (2, 3, " It will be. ")],
    "same": [(0, 1, " No."), (1, 2, " No."), (2, 3, " Yes.")],
    "none": [],
    "fails": RuntimeError("CUDA failed"),
}


def _whispered(told: Any) -> Any:
    from mst.config import TranscriptionConfig  # noqa: PLC0415
    from mst.steps import transcription  # noqa: PLC0415

    def transcribe(_path: str) -> Any:
        if isinstance(told, Exception):
            raise told
        rows = [SimpleNamespace(start=start, end=end, text=text) for start, end, text in told]
        return iter(rows), SimpleNamespace(duration=3)

    transcription._whisper_models["x"] = SimpleNamespace(transcribe=transcribe)
    return transcription.initial_transcription("", config=TranscriptionConfig(whisper_model="x"))


_SPLIT: dict[str, Any] = {
    "glued": [(0, 2, "Dig a ditch?"), (2, 4, "No, said Ann."), (4, 5, " Well then.")],
    "shared": [(0, 6, "One. Two. Three."), (6, 7, " Four.")],
    "long": [(0, 2, "It goes on and"), (2, 4, " on and"), (4, 6, " on. End.")],
    "none": [],
    "nothing": None,
}


def _split(told: Any) -> Any:
    from mst.steps import merge_sentences  # noqa: PLC0415

    merge_sentences.spacy = SimpleNamespace(load=lambda _name: _Sentences())
    rows = told and [{"start": start, "end": end, "transcript": text} for start, end, text in told]
    return merge_sentences.merge_transcript_segments("", rows)


class _Sentences:
    pipe_names = ("sentencizer",)

    def __call__(self, text: str) -> Any:
        parts = [part + "." for part in text.split(". ")[:-1]] + text.split(". ")[-1:]
        return SimpleNamespace(sents=[SimpleNamespace(text=part + " ") for part in parts])


_TURNS: dict[str, Any] = {
    "two": [(0, 2, "A"), (2, 4, "B")],
    "one": [(0, 2, "A")],
    "none": [],
    "nested": [(0, 9, "A"), (1, 2, "B"), (3, 4, "B"), (9, 10, "A")],
    "fails": RuntimeError("CUDA out of memory"),
}


def _diarized(told: Any) -> Any:
    from mst.config import DiarizationConfig  # noqa: PLC0415
    from mst.steps import diarization  # noqa: PLC0415

    def pipeline(_path: str) -> Any:
        if isinstance(told, Exception):
            raise told
        return [(SimpleNamespace(start=start, end=end), who) for start, end, who in told]

    diarization._diarization_pipelines["x"] = pipeline
    return diarization.identify_speakers("", [], config=DiarizationConfig(diarization_model="x"))


_NAMED: dict[str, Any] = {
    "some": [[("Ann", "Person"), ("today", "Date")], [], [("Ann", "Person"), ("Paris", "Locations")]],
    "pronouns": [[("He", "Person"), ("somebody", "Person"), ("me", "Person")]],
    "none": [[]],
    "batch fails": RuntimeError("no batch"),
}


def _named(told: Any) -> Any:
    from mst.config import EntityConfig  # noqa: PLC0415
    from mst.steps import entities  # noqa: PLC0415

    entities._entity_models["x"] = _Names(told)
    entities.get_llm_client = lambda _config: SimpleNamespace(parse=_sorted_names)
    rows = [{"transcript": f"Sentence {number}."} for number in range(3)]
    return entities.extract_nouns("", rows, config=EntityConfig(gliner_model="x"))


class _Names:
    def __init__(self, told: Any) -> None:
        self.told = told

    def batch_predict_entities(self, texts: Any, labels: Any, threshold: float) -> Any:
        if isinstance(self.told, Exception):
            raise self.told
        return [
            [{"text": text, "label": label, "score": threshold, "start": 0, "end": 1} for text, label in row]
            for row in self.told[: len(texts)]
        ]


def _sorted_names(*, model: str, messages: Any, response_model: Any) -> Any:
    listed = messages[-1]["content"].splitlines()
    return response_model(nouns=sorted(line[2:] for line in listed if line.startswith("- ")))


_CORRECTED: dict[str, Any] = {
    "near": (["Paris", "Ann"], "To paris, then; and Ann's."),
    "no nouns": ([], "To Paris."),
    "blank": (["Paris"], "  "),
}


def _corrected(told: Any) -> Any:
    from mst.config import StandardizeConfig  # noqa: PLC0415
    from mst.steps import standardize  # noqa: PLC0415

    nouns, text = told
    standardize._noun_correction_models["x"] = SimpleNamespace(encode=_encode)
    rows = [{"start": 0, "end": 1, "transcript": text}]
    config = StandardizeConfig(sentence_transformer_model="x")
    return standardize.correct_transcript(
        "", rows, {"Person": [{"text": one} for one in nouns]}, config=config
    )


def _encode(texts: Any, convert_to_tensor: bool = True) -> Any:
    import torch  # noqa: PLC0415

    def vector(text: str) -> list[float]:
        return [1.0 + text.lower().count(letter) for letter in "aeinoprst"]

    return torch.tensor(vector(texts) if isinstance(texts, str) else [vector(one) for one in texts])


_INTRODUCED: dict[str, Any] = {
    "two": [[("Ann", "Person")], [("Bob", "Person")], []],
    "shifted": [[], [("Ann", "Person")], [("Bob", "Person")]],
    "outside": [[("Ann", "Person")], [], [("Bob", "Person")]],
}


def _introduced(told: Any) -> Any:
    from mst.steps import entities, introductions  # noqa: PLC0415

    entities._entity_models["urchade/gliner_medium-v2.1"] = _Names(told)
    introductions.SetFitModel = SimpleNamespace(
        from_pretrained=lambda _name: SimpleNamespace(predict=lambda texts: ["introduction"] * len(texts))
    )
    raw = [{"start": 4 * at, "end": 4 * at + 3, "transcript": f"I am {at}."} for at in range(3)]
    turns = [{"start": 4 * at, "end": 4 * at + 3, "speaker": f"SPEAKER_0{at}"} for at in range(2)]
    found = introductions.find_introductions("", raw)
    return found, list(introductions.create_speaker_map("", found, turns).items())


_TOPICS = [(3, 2), (4, 2), (12, 1), (12, 3), (40, 4), (40, 100)]


def _topics(size: int, most: int, embed: Any = None, vector: Any = None) -> Any:
    import treeseg  # noqa: PLC0415
    from mst.steps import topic_segmentation  # noqa: PLC0415

    chance = random.Random(size)
    vector = vector or (lambda _at: [chance.random() for _ in range(3)])

    async def own(_config: Any, chunks: Any) -> Any:
        return [vector(at) for at, _ in enumerate(chunks)]

    config = {
        "MIN_SEGMENT_SIZE": 2,
        "LAMBDA_BALANCE": 0,
        "UTTERANCE_EXPANSION_WIDTH": 2,
        "EMBEDDINGS": treeseg.Embeddings(embeddings_func=embed or own, headers={}, model="m", endpoint="e"),
        "TEXT_KEY": "transcript",
    }
    rows = [{"start": at, "transcript": f"Text {at}."} for at in range(size)]
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        return topic_segmentation.segment_topics("", rows, config, most)
    finally:
        asyncio.set_event_loop(None)
        loop.close()


async def _no_embeddings(_config: Any, _chunks: Any) -> Any:
    raise ConnectionError("down")


async def _topics_in_a_loop() -> Any:
    import treeseg.treeseg  # noqa: PLC0415

    async def own(_config: Any, chunks: Any) -> Any:
        return [[1.0] for _ in chunks]

    told = treeseg.Embeddings(embeddings_func=own, headers={}, model="m", endpoint="e")
    config = {"MIN_SEGMENT_SIZE": 1, "LAMBDA_BALANCE": 0, "UTTERANCE_EXPANSION_WIDTH": 0, "EMBEDDINGS": told}
    return treeseg.TreeSeg(configs=config, entries=[{"composite": "a"}] * 4).segment_meeting(2)


def _said(topics: list[int | None]) -> list[dict[str, Any]]:
    rows = []
    for at, topic in enumerate(topics):
        row = {"start": at, "transcript": f"T{at}.", "speaker_name": f"S{at // 2}"}
        rows.append(row if topic is None else row | {"topic": topic})
    return rows


_NOUNS = {"Person": [{"text": "Ann"}], "Date": [{"text": "May"}], "Locations": []}
_TEXTS: dict[str, Any] = {
    "no topics": (_said([None, None, None]), [], []),
    "one topic": (_said([0, 0, 0]), ["A: b!"], ["s"]),
    "two topics": (_said([0, 0, 1, 1]), ["A", "B c"], ["s", "t"]),
    "too few headlines": (_said([0, 1]), ["A"], ["s"]),
    "no rows": ([], [], []),
}


def _texts(rows: Any, headlines: Any, summaries: Any) -> Any:
    from mst.steps import format as formats  # noqa: PLC0415

    markdown = formats.format_markdown("", rows, _NOUNS, headlines, summaries)
    return formats.format_transcript("", rows), markdown


_ANSWERS = (" A headline \n", None, "")


def _headlines(answer: Any) -> Any:
    from mst.steps import topic_segmentation  # noqa: PLC0415

    def chat(*, model: str, messages: Any) -> Any:
        return answer

    topic_segmentation.get_llm_client = lambda _config: SimpleNamespace(chat=chat)
    return topic_segmentation.prepare_and_generate_headlines("", _said([0, 1, 1]))


def _cached_without_a_path() -> Any:
    from mst.steps import caching  # noqa: PLC0415

    calls: list[str] = []

    @caching.cached_file_object(".x")
    def noted(_path: str) -> list[int]:
        calls.append("called")
        return [1]

    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        noted("")
        noted("")
        return len(calls), [file.name for file in Path(folder).rglob("*")]


def _cached_with_a_path() -> Any:
    """Null is made again, what is there is kept, half a file is an error."""
    from mst.steps import caching  # noqa: PLC0415

    calls: list[Any] = []

    @caching.cached_file_object(".x")
    def noted(_path: str, value: Any) -> Any:
        calls.append(value)
        return value

    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/a.wav"
        results = [noted(path, None), noted(path, [1]), noted(path, [2])]
        Path(folder, "a.d/cache.x").write_text("[1")
        try:
            noted(path, [3])
        except json.JSONDecodeError:
            return results, calls, sorted(file.name for file in Path(folder).rglob("*"))
    return "half a file was taken"


if __name__ == "__main__":
    json.dump({"outcomes": outcomes(), "signatures": signatures(), "fields": fields()}, sys.stdout)
