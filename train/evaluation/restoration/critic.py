"""How easily restored holes are told from true ones: the AUC of a logistic critic, trained for each set.

It looks with features that nothing here was trained with, so no restorer has learned to please it. 0.5 is perfect:
it can only guess. Cross-validated: the true and the restored picture of a case are always in the same fold, so that the
critic can't know a person by heart.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from train.evaluation.metrics import Floats

#: With fewer cases the figure is mostly chance. A critic learns more from more cases: only equal counts compare.
FEWEST_CASES = 40
FOLDS = 5
#: Weight of the squared weights against a sample's loss, for standardised features.
RIDGE = 30.0
_STEPS, _SETTLED = 20, 1e-6


def pooled(maps: Sequence[Tensor], region: Tensor) -> np.ndarray:
    """The mean of each channel of all feature maps (NCHW) inside a region (N1HW, 1 = counts): N x channels."""
    means = []
    for features in maps:
        inside = F.adaptive_avg_pool2d(region, features.shape[-2:])
        sums = (features * inside).sum(dim=(2, 3))
        means.append((sums / inside.sum(dim=(2, 3)).clamp_min(1e-6)).numpy())
    return np.concatenate(means, axis=1).astype(np.float64)


def critic_auc(made: Floats, real: Floats, fewest: int = FEWEST_CASES) -> float:
    """AUC of telling `made` from `real` (n x d features each, row by row of the same case); NaN below `fewest`."""
    cases = len(made)
    if cases < fewest:
        return float("nan")
    features = np.stack([made, real], axis=1)
    folds = np.random.default_rng(0).permutation(cases) % FOLDS
    scores = np.empty((cases, 2))
    for fold in range(FOLDS):
        training, held_out = features[folds != fold], features[folds == fold]
        labels = np.tile([1.0, 0.0], len(training))
        found = logistic_scores(_flat(training), labels, _flat(held_out))
        # Each fold has a critic of its own, whose scores have a scale of their own: their ranks compare.
        scores[folds == fold] = (found.argsort().argsort() / len(found)).reshape(-1, 2)
    return area_under_curve(scores[:, 0], scores[:, 1])


def logistic_scores(features: Floats, labels: Floats, held_out: Floats) -> Floats:
    """Logits of `held_out` from a ridge logistic regression of `labels` (0 or 1) on standardised `features`.

    Newton's method in the space of the samples, of which there are fewer than features.
    """
    mean, spread = features.mean(axis=0), features.std(axis=0) + 1e-6
    known, new = (features - mean) / spread, (held_out - mean) / spread
    kernel = known @ known.T / RIDGE
    weights = np.zeros(len(labels))
    for _ in range(_STEPS):
        logits = kernel @ weights
        chance = 1 / (1 + np.exp(-np.clip(logits, -30, 30)))
        slope = np.maximum(chance * (1 - chance), 1e-9)
        last, weights = weights, np.linalg.solve(kernel + np.diag(1 / slope), logits + (labels - chance) / slope)
        if np.abs(weights - last).max() < _SETTLED:
            break
    return np.asarray(new @ known.T @ weights / RIDGE)


def area_under_curve(positive: Floats, negative: Floats) -> float:
    """The chance that a positive score is above a negative one; ties count half."""
    apart = positive[:, None] - negative[None]
    return float((apart > 0).mean() + 0.5 * (apart == 0).mean())


def _flat(features: Floats) -> Floats:
    return features.reshape(-1, features.shape[-1])
