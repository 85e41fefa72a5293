"""How long the rest will take."""

from worker.progress import remaining_s


def test_the_rest_takes_as_long_as_the_speed_so_far_says() -> None:
    assert remaining_s(10, 0.25) == 30
    assert remaining_s(10, 1.0) == 0


def test_what_an_earlier_attempt_did_says_nothing_about_the_speed() -> None:
    assert remaining_s(10, 0.75, first=0.5) == 10


def test_before_there_is_a_speed_nothing_is_said() -> None:
    assert remaining_s(10, 0.5, first=0.5) == ""
    assert remaining_s(0, 0.0) == ""
