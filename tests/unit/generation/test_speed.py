import pytest

from app.generation.speed import SpeedMeter


def _noted(*notes: tuple[int, float]) -> SpeedMeter:
    meter = SpeedMeter()
    for rows, seconds in notes:
        meter.note(rows, seconds)
    return meter


def test_nothing_is_known_before_the_first_note() -> None:
    assert SpeedMeter().speed is None


def test_both_parts_are_found_where_calls_differ_in_rows() -> None:
    speed = _noted(*((rows, 0.03 + 0.002 * rows) for rows in (1, 4, 16, 2, 8))).speed
    assert speed is not None
    assert (speed.step, speed.row) == pytest.approx((0.03, 0.002))


def test_calls_of_one_size_tell_nothing_of_a_row() -> None:
    speed = _noted((4, 0.02), (4, 0.04)).speed
    assert speed is not None
    assert speed.row == 0


def test_no_part_is_negative_where_large_calls_happened_to_be_fast() -> None:
    speed = _noted((1, 0.05), (16, 0.01)).speed
    assert speed is not None
    assert min(speed.step, speed.row) >= 0


def test_no_part_is_negative_where_large_calls_happened_to_be_slow() -> None:
    speed = _noted((1, 0.0), (16, 1.0)).speed
    assert speed is not None
    assert min(speed.step, speed.row) >= 0


def test_old_notes_are_forgotten() -> None:
    speed = _noted(*[(1, 1.0)] * 100, *[(1, 0.1)] * 200).speed
    assert speed is not None
    assert speed.step == pytest.approx(0.1, rel=1e-3)
