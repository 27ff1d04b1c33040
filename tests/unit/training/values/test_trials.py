from app.training.values.trials import Trial, choose_scale

PLAIN = Trial(0.0, 0.5, 0.0, -1.8, 0.02, 80.0)


def trial(scale: float, preferred: float, log_probability: float = -1.5, repeated: float = 0.05) -> Trial:
    return Trial(scale, preferred, 1.0, log_probability, repeated, 80.0)


def test_the_most_preferred_fluent_scale_is_chosen() -> None:
    assert choose_scale([PLAIN, trial(1, 0.6), trial(2, 0.8), trial(3, 0.7)]) == 2


def test_a_scale_that_writes_unlikely_text_is_not_chosen() -> None:
    assert choose_scale([PLAIN, trial(1, 0.6), trial(2, 0.8, log_probability=-2.5)]) == 1


def test_a_scale_that_repeats_itself_is_not_chosen() -> None:
    assert choose_scale([PLAIN, trial(1, 0.6), trial(2, 0.8, repeated=0.5)]) == 1


def test_what_leaving_out_implausible_tokens_costs_is_not_held_against_strength() -> None:
    assert choose_scale([PLAIN, trial(1, 0.6, repeated=0.15), trial(2, 0.8, repeated=0.16)]) == 2


def test_the_smallest_scale_is_left_if_no_other_is_fluent() -> None:
    assert choose_scale([PLAIN, trial(1, 0.6), trial(2, 0.8, -3.0), trial(3, 0.9, -4.0)]) == 1
