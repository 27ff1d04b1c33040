"""Which pair to ask next. Knows pairs only by their rows of basis reward differences.

A rule maps a belief and the rows to one gain per row; ``select_pair`` asks the row with the largest gain. Every rule
works for every family of beliefs; those of optimal design see its mean and covariance only.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from app.preferences.belief import Belief
from app.preferences.gaussian import Posterior, check_rows
from app.preferences.information import information_bits, information_bound
from app.preferences.information_search import TIE_TOLERANCE, InformationSearch
from app.preferences.logistic import ROWS_PER_CHUNK, sigmoid
from app.preferences.near_duplicates import near_duplicates

ROWS_PER_SEARCH = 8192  # rows x basis rewards stays in the second-level cache
SHORTLIST = 256  # pairs on which a belief of many components is evaluated: some thousand numbers for each of them

Rule = Callable[[Belief, Float64[np.ndarray, "pairs basis"]], Float64[np.ndarray, " pairs"]]


@dataclass(frozen=True)
class Selection:
    """The pair to ask, by its row, and what its answer is expected to tell."""

    index: int
    expected_information_bits: float


def expected_information_bits(
    belief: Belief, differences: Float64[np.ndarray, "pairs basis"]
) -> Float64[np.ndarray, " pairs"]:
    """Mutual information between a pair's answer and the coefficients (BALD).

    Args:
        belief: Belief about the coefficients, of any family.
        differences: Basis rewards of the first candidate minus the second. At most ``ROWS_PER_CHUNK`` rows are
            spread over the belief's components at a time.

    Returns:
        Bits (N,), between 0 and 1; 0 for a pair of equal candidates. Accuracy as ``information_bits``.

    Raises:
        ValueError: If ``differences`` is not finite or has another K.
    Source:
        Houlsby et al., Bayesian Active Learning for Classification and Preference Learning (2011), eq. 2.
    """
    bits = np.empty(len(differences))
    for start in range(0, len(differences), ROWS_PER_CHUNK):
        rows = slice(start, start + ROWS_PER_CHUNK)
        bits[rows] = information_bits(belief.margins(differences[rows]))
    return bits


def d_optimal(belief: Belief, differences: Float64[np.ndarray, "pairs basis"]) -> Float64[np.ndarray, " pairs"]:
    """Gain in log-determinant of the precision at the current mean, log(1 + s v), in nats (N,).

    s is the answer's variance at the mean margin and v the margin's variance. Raises ``ValueError`` as
    ``Belief.project`` does.

    Source:
        Chaloner and Verdinelli, Bayesian Experimental Design: A Review (1995), sec. 2.2, with a rank-one update.
    """
    means, variances = belief.project(differences)
    return np.asarray(np.log1p(sigmoid(means) * sigmoid(-means) * variances), dtype=np.float64)


def g_optimal(belief: Belief, differences: Float64[np.ndarray, "pairs basis"]) -> Float64[np.ndarray, " pairs"]:
    """Variance of the margin, in squared log-odds (N,): asks the least certain pair, however clear its answer is.

    Raises ``ValueError`` as ``Belief.project`` does.

    Source:
        Shenfeld et al., Language Model Personalization via Reward Factorization (2025), lemma 4.3, with the belief's
        covariance in the place of the inverse curvature.
    """
    return belief.project(differences)[1]


def pref_rule(belief: Belief, differences: Float64[np.ndarray, "pairs basis"]) -> Float64[np.ndarray, " pairs"]:
    """Variance of the margin times the squared variance of the answer at the mean margin, s² v (N,).

    Raises ``ValueError`` as ``Belief.project`` does.

    Source:
        The procedure published with Shenfeld et al. (2025), again with the belief's covariance.
    """
    means, variances = belief.project(differences)
    return np.asarray(np.square(sigmoid(means) * sigmoid(-means)) * variances, dtype=np.float64)


def reference_optimal(target_moment: Float64[np.ndarray, "basis basis"]) -> Rule:
    """Rule that lowers the mean variance of the margins a person will really be served (I- or V-optimality).

    The gain is s xᵀ C M C x / (1 + s v), with C the covariance and M = E[x xᵀ] over the served pairs, in squared
    log-odds (N,).

    Args:
        target_moment: Mean outer product of the served pairs' differences (K, K), positive semi-definite.

    Raises:
        ValueError: From the rule, if ``target_moment`` or the rows have another K.
    Source:
        Chaloner and Verdinelli (1995), sec. 2.3; Sherman-Morrison for the covariance after one more answer.
    """

    def gain(belief: Belief, differences: Float64[np.ndarray, "pairs basis"]) -> Float64[np.ndarray, " pairs"]:
        if target_moment.shape != (belief.size, belief.size):
            raise ValueError(f"target_moment is {target_moment.shape}; pass one of ({belief.size}, {belief.size}).")
        check_rows(differences, belief.size)
        covariance = belief.covariance()
        both = np.column_stack([_root(covariance), _root(covariance @ target_moment @ covariance), belief.mean])
        gains = np.empty(len(differences))
        for start in range(0, len(gains), ROWS_PER_SEARCH):
            rows = slice(start, start + ROWS_PER_SEARCH)
            parts = differences[rows] @ both
            variance, reduction = (np.einsum("nk,nk->n", part, part) for part in np.split(parts[:, :-1], 2, axis=1))
            decay = np.exp(-np.abs(parts[:, -1]))
            slopes = decay / np.square(1.0 + decay)
            gains[rows] = slopes * reduction / (1.0 + slopes * variance)
        return gains

    return gain


def _root(matrix: Float64[np.ndarray, "basis basis"]) -> Float64[np.ndarray, "basis basis"]:
    """R with R @ R.T = ``matrix``, symmetric and positive semi-definite up to rounding."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2.0)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)), dtype=np.float64)


def thompson(rng: np.random.Generator) -> Rule:
    """Rule that asks where two people drawn from the belief disagree most, in probability (N,).

    Both draws are new at each use, which advances ``rng``.

    Source:
        Wu and Liu, Double Thompson Sampling for Dueling Bandits (2016), with a pool of pairs in the place of all.
    """

    def gain(belief: Belief, differences: Float64[np.ndarray, "pairs basis"]) -> Float64[np.ndarray, " pairs"]:
        one, other = belief.draw(2, rng)
        return np.asarray(np.abs(sigmoid(differences @ one) - sigmoid(differences @ other)), dtype=np.float64)

    return gain


def random_choice(rng: np.random.Generator) -> Rule:
    """Rule that asks any allowed pair with equal chance: the baseline of evaluations. Each use advances ``rng``."""

    def gain(_belief: Belief, differences: Float64[np.ndarray, "pairs basis"]) -> Float64[np.ndarray, " pairs"]:
        return rng.random(len(differences))

    return gain


RULES = ("expected_information", "d_optimal", "v_optimal", "g_optimal", "pref", "thompson", "random")
"""Names that ``named_rule`` knows."""


def named_rule(
    name: str,
    *,
    rng: np.random.Generator | None = None,
    target_moment: Float64[np.ndarray, "basis basis"] | None = None,
) -> Rule:
    """The rule of a name in ``RULES``.

    Args:
        name: What the rule is called.
        rng: Source of randomness of "thompson" and "random", which advance it; the others need none.
        target_moment: Mean outer product (K, K) of the served pairs' differences, for "v_optimal".

    Raises:
        ValueError: If there is no such rule, or it needs ``rng`` or ``target_moment`` and that is None.
    """
    if name == "v_optimal" and target_moment is not None:
        return reference_optimal(target_moment)
    if name in _RANDOM_RULES and rng is not None:
        return _RANDOM_RULES[name](rng)
    if name in _FIXED_RULES:
        return _FIXED_RULES[name]
    if name in RULES:
        raise ValueError(f'"{name}" needs {"target_moment" if name == "v_optimal" else "rng"}; pass it.')
    raise ValueError(f'There is no rule "{name}"; choose one of {", ".join(RULES)}.')


_FIXED_RULES: Mapping[str, Rule] = {
    "expected_information": expected_information_bits,
    "d_optimal": d_optimal,
    "g_optimal": g_optimal,
    "pref": pref_rule,
}
_RANDOM_RULES: Mapping[str, Callable[[np.random.Generator], Rule]] = {"thompson": thompson, "random": random_choice}


def select_pair(
    belief: Belief,
    differences: Float64[np.ndarray, "pairs basis"],
    allowed: Bool[np.ndarray, " pairs"],
    *,
    rule: Rule = expected_information_bits,
    asked: Float64[np.ndarray, "asked basis"] | None = None,
) -> Selection | None:
    """Choose the allowed pair that gains most. For many choices from one large pool, build a ``PoolIndex``.

    A belief of many components meets the expected information on the ``SHORTLIST`` pairs that would tell most about a
    Gaussian with its mean and covariance; every other rule and belief is evaluated on all allowed pairs.

    Args:
        belief: Belief about the coefficients.
        differences: Basis rewards of the first candidate minus the second, one row a pair.
        allowed: Rows that may be asked.
        rule: Gain of each row; only allowed rows are evaluated.
        asked: Rows asked before: their near-duplicates are chosen only if nothing else is allowed.

    Returns:
        The pair, the lowest row among equal gains; None if no row is allowed.

    Raises:
        ValueError: If ``allowed`` has another length than ``differences``, or these are not finite or have another K.
    """
    if allowed.shape != (len(differences),):
        raise ValueError(f"{len(differences)} pairs need as many entries in allowed, not {allowed.shape}.")

    def choose(mask: Bool[np.ndarray, " pairs"]) -> Selection | None:
        if rule is expected_information_bits and isinstance(belief, Posterior):
            return _most_informative(belief, differences, mask)
        if rule is expected_information_bits:
            return _largest_gain(belief, differences, _shortlist(belief, differences, mask), rule)
        return _largest_gain(belief, differences, mask, rule)

    return without_repeats(choose, differences, allowed, asked)


def without_repeats(
    choose: Callable[[Bool[np.ndarray, " pairs"]], Selection | None],
    differences: Float64[np.ndarray, "pairs basis"],
    allowed: Bool[np.ndarray, " pairs"],
    asked: Float64[np.ndarray, "asked basis"] | None,
) -> Selection | None:
    """What ``choose`` picks among the allowed rows that do not repeat one of ``asked``; any allowed, if all do.

    The whole pool is compared with ``asked`` only where the first pick is a repeat, which changes no result of a rule
    without randomness.
    """
    pick = choose(allowed)
    if pick is None or asked is None or not near_duplicates(differences[[pick.index]], asked)[0]:
        return pick
    return choose(allowed & ~near_duplicates(differences, asked)) or pick


def _most_informative(
    belief: Posterior, differences: Float64[np.ndarray, "pairs basis"], allowed: Bool[np.ndarray, " pairs"]
) -> Selection | None:
    """As ``_largest_gain`` with ``expected_information_bits``, by a search that evaluates few rows."""
    search = InformationSearch()
    for rows in _chunks(allowed):
        search.offer(rows, *belief.project(differences[rows]))
    found = search.result()
    return None if found is None else Selection(*found)


def _shortlist(
    belief: Belief, differences: Float64[np.ndarray, "pairs basis"], allowed: Bool[np.ndarray, " pairs"]
) -> Bool[np.ndarray, " pairs"]:
    """The allowed rows that promise most by their margins' first two moments alone, at most ``SHORTLIST``."""
    rows = np.flatnonzero(allowed)
    if len(rows) <= SHORTLIST:
        return allowed
    promises = information_bound(*belief.project(differences[rows]))
    kept = np.zeros(len(allowed), dtype=np.bool_)
    kept[rows[np.argpartition(-promises, SHORTLIST)[:SHORTLIST]]] = True
    return kept


def _chunks(allowed: Bool[np.ndarray, " pairs"]) -> Iterator[Int64[np.ndarray, " rows"]]:
    """The allowed rows' numbers, some thousand at a time."""
    rows = np.flatnonzero(allowed)
    for start in range(0, len(rows), ROWS_PER_SEARCH):
        yield rows[start : start + ROWS_PER_SEARCH]


def _largest_gain(
    belief: Belief, differences: Float64[np.ndarray, "pairs basis"], allowed: Bool[np.ndarray, " pairs"], rule: Rule
) -> Selection | None:
    """The allowed row of the largest gain, after evaluating all of them."""
    rows = np.flatnonzero(allowed)
    if len(rows) == 0:
        return None
    gains = rule(belief, differences[rows])
    best = gains.max()
    index = int(rows[np.flatnonzero(gains >= best - TIE_TOLERANCE * abs(best))[0]])
    bits = expected_information_bits(belief, differences[index : index + 1])
    return Selection(index, float(bits[0]))
