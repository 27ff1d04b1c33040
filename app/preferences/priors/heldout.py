"""How well a prior serves somebody it was not fitted on: log-loss of answers yet to come. Knows no family."""

import numpy as np

from app.preferences.answers import Answers, ResponseModel
from app.preferences.belief import Prior
from app.preferences.logistic import preference_probability
from app.preferences.population import log_loss

STAGES = (0, 3, 10)
PLAIN = ResponseModel()


def sequential_losses(prior: Prior, answers: Answers, stages: tuple[int, ...] = STAGES) -> np.ndarray:
    """Log-loss in nats of one person's later answers, after the first few, for each number of ``stages``.

    After t answers, those from t on are predicted: what a person of whom that much is known costs on average. A stage
    that leaves nothing to predict has NaN.
    """
    losses = np.full(len(stages), np.nan)
    for index, stage in enumerate(stages):
        if stage >= len(answers):
            break
        asked = Answers(answers.differences[:stage], answers.first_preferred[:stage], answers.weights[:stage])
        belief, _ = prior.condition(asked, PLAIN)
        predicted = preference_probability(belief, answers.differences[stage:])
        losses[index] = log_loss(predicted, answers.first_preferred[stage:])
    return losses
