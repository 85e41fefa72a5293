"""Where speech is found and cut: pure functions of probabilities."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from numpy.typing import NDArray

from worker.engines.cutting import MAX_CHUNK_S, pack_chunks, window_cut_s
from worker.engines.voice import FRAME_S, MARGIN_S, MIN_PAUSE_S, Stretch, _framed, speech_stretches

Probabilities = NDArray[np.float32]


def talk(*parts: tuple[float, float]) -> Probabilities:
    """Probabilities from (length in seconds, probability)."""
    return np.concatenate(
        [np.full(round(length_s / FRAME_S), value, np.float32) for length_s, value in parts]
    )


def test_speech_gets_margins_and_long_pauses_part_it() -> None:
    first, second = speech_stretches(talk((2, 0), (3, 0.9), (2, 0), (1, 0.9), (2, 0)))
    assert first.start_s == pytest.approx(2 - MARGIN_S, abs=FRAME_S)
    assert first.end_s == pytest.approx(5 + MARGIN_S, abs=FRAME_S)
    assert second.start_s == pytest.approx(7 - MARGIN_S, abs=2 * FRAME_S)


def test_short_pauses_and_clicks_part_nothing() -> None:
    assert len(speech_stretches(talk((1, 0.9), (MIN_PAUSE_S / 2, 0), (1, 0.9)))) == 1
    assert speech_stretches(talk((1, 0), (0.05, 0.9), (1, 0))) == []
    assert speech_stretches(talk((5, 0.2))) == []
    assert speech_stretches(np.zeros(0, np.float32)) == []


def test_a_voice_between_the_thresholds_goes_on_but_does_not_begin() -> None:
    assert speech_stretches(talk((2, 0.4))) == []
    (only,) = speech_stretches(talk((1, 0.9), (2, 0.4), (1, 0.9)))
    assert only.length_s == pytest.approx(4, abs=2 * FRAME_S)


def test_margins_stay_inside_and_apart() -> None:
    rng = random.Random(7)
    for _ in range(50):
        parts = [(rng.uniform(0.05, 3), rng.choice([0.0, 0.4, 0.95])) for _ in range(30)]
        probabilities = talk(*parts)
        stretches = speech_stretches(probabilities)
        assert all(0 <= one.start_s < one.end_s <= len(probabilities) * FRAME_S for one in stretches)
        assert all(one.end_s <= after.start_s for one, after in itertools.pairwise(stretches))


def test_a_window_is_cut_amid_the_longest_pause_of_its_end() -> None:
    probabilities = talk((10, 0.9), (5, 0), (10, 0.9), (0.5, 0), (2, 0.9), (1, 0), (2, 0.9))
    assert window_cut_s(probabilities, search_s=10) == pytest.approx(28, abs=0.1)


def test_without_a_pause_the_least_likely_frame_is_cut() -> None:
    probabilities = talk((20, 0.9), (0.1, 0.6), (5, 0.9))
    assert window_cut_s(probabilities, search_s=10) == pytest.approx(20, abs=0.2)


def test_a_cut_always_goes_forward() -> None:
    assert window_cut_s(talk((0.1, 0.9)), search_s=30) > 0
    assert window_cut_s(talk((0.032, 0)), search_s=30) > 0


def test_neighbours_share_a_chunk_where_they_fit() -> None:
    near = [Stretch(0, 10), Stretch(11, 20), Stretch(21, 28), Stretch(28.5, 40)]
    assert pack_chunks(near, talk((40, 0.9))) == [Stretch(0, 28), Stretch(28.5, 40)]
    far = [Stretch(0, 1), Stretch(9, 10)]
    assert pack_chunks(far, talk((10, 0.9))) == far


def test_endless_speech_is_cut_at_its_pauses() -> None:
    probabilities = talk((25, 0.9), (0.3, 0.1), (30, 0.9), (20, 0.95))
    chunks = pack_chunks([Stretch(0, 75.3)], probabilities)
    assert chunks[0].end_s == pytest.approx(25.15, abs=0.1)
    assert all(0 < one.length_s <= MAX_CHUNK_S + FRAME_S for one in chunks)
    assert chunks[-1].end_s == 75.3
    assert all(one.end_s == after.start_s for one, after in itertools.pairwise(chunks))


@pytest.mark.parametrize("samples", [0, 1, 511, 512, 513, 1_100_000])
def test_frames_carry_the_end_of_the_one_before(samples: int) -> None:
    audio = np.arange(samples, dtype=np.float32)
    frames = np.concatenate([np.zeros((0, 576), np.float32), *_framed(audio)])
    assert frames.shape == (-(-samples // 512), 576)
    if samples > 1024:
        np.testing.assert_array_equal(frames[1], audio[512 - 64 : 1024])
