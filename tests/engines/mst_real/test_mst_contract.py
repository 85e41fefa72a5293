"""The stand-in of tests/engines/mst keeps the real package's contract: names, signatures, results, errors."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from typing import Any

import gliner
import pytest
import sentence_transformers
import setfit
import spacy
from pyannote.audio import Pipeline
from pyannote.audio.pipelines.speaker_diarization import DiarizeOutput, SpeakerDiarization
from pyannote.core import Annotation, Segment

from tests.engines.mst import contract_cases
from tests.engines.mst.bench import STANDIN


def told_by(pythonpath: str) -> dict[str, Any]:
    made = subprocess.run(
        [sys.executable, "-W", "ignore", contract_cases.__file__],
        env={**os.environ, "PYTHONPATH": pythonpath},
        capture_output=True,
        check=True,
        timeout=170,
    )
    found: dict[str, Any] = json.loads(made.stdout)
    return found


@pytest.fixture(scope="module")
def real() -> dict[str, Any]:
    return told_by("")


@pytest.fixture(scope="module")
def ours() -> dict[str, Any]:
    return told_by(str(STANDIN))


def test_every_outcome_is_the_same(real: dict[str, Any], ours: dict[str, Any]) -> None:
    assert len(ours["outcomes"]) > 100
    assert ours["outcomes"] == real["outcomes"]


def test_every_name_of_the_stand_in_is_there_with_its_parameters(
    real: dict[str, Any], ours: dict[str, Any]
) -> None:
    assert len(ours["signatures"]) > 60
    missing = set(ours["signatures"]) - set(real["signatures"])
    assert not missing
    assert ours["signatures"] == {name: real["signatures"][name] for name in ours["signatures"]}


def test_the_configuration_has_the_same_fields_and_defaults(
    real: dict[str, Any], ours: dict[str, Any]
) -> None:
    assert ours["fields"] == real["fields"]


def test_nothing_is_kept_for_an_empty_path(real: dict[str, Any]) -> None:
    assert real["outcomes"]["cache without a path"] == [2, []]


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (Pipeline.from_pretrained, ["checkpoint", "revision", "hparams_file", "subfolder", "token"]),
        (Pipeline.__call__, ["self", "file", "preload", "kwargs"]),
        (SpeakerDiarization.apply, ["self", "file", "num_speakers", "min_speakers", "max_speakers", "hook"]),
        (
            gliner.GLiNER.batch_predict_entities,
            ["self", "texts", "labels", "flat_ner", "threshold", "multi_label"],
        ),
        (setfit.SetFitModel.predict, ["self", "inputs", "batch_size", "as_numpy", "use_labels"]),
        (spacy.load, ["name"]),
        (Segment, ["start", "end"]),
        (Annotation.itertracks, ["self", "yield_label"]),
    ],
)
def test_the_models_classes_take_what_the_stand_ins_take(function: Any, names: list[str]) -> None:
    assert list(inspect.signature(function).parameters)[: len(names)] == names


def test_words_are_encoded_by_the_parameters_that_the_stand_in_has() -> None:
    parameters = inspect.signature(sentence_transformers.SentenceTransformer.encode).parameters
    assert next(iter(parameters)) == "self"
    assert {"batch_size", "show_progress_bar", "convert_to_numpy", "convert_to_tensor"} <= set(parameters)


def test_diarization_gives_what_the_stand_in_gives() -> None:
    """The fields, and sizes of batches that can be made smaller; its output is no iterable of itself."""
    fields = list(inspect.signature(DiarizeOutput).parameters)
    assert fields == ["speaker_diarization", "exclusive_speaker_diarization", "speaker_embeddings"]
    assert not hasattr(DiarizeOutput, "__iter__")
    assert {"segmentation_batch_size", "embedding_batch_size"} <= set(dir(SpeakerDiarization)) | set(
        inspect.signature(SpeakerDiarization).parameters
    )
    heard = Annotation()
    heard[Segment(0, 1), "0"] = "A"
    assert list(heard) == [(Segment(0, 1), "A")]
    assert list(heard.itertracks(yield_label=True)) == [(Segment(0, 1), "0", "A")]
