"""The critic: a coin where nothing tells restored from true, sure where anything does."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from train.evaluation.restoration.critic import (
    FEWEST_CASES,
    RIDGE,
    area_under_curve,
    critic_auc,
    logistic_scores,
    pooled,
)


def test_equal_distributions_are_not_told_apart() -> None:
    found = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        found.append(critic_auc(rng.normal(0, 1, (100, 300)), rng.normal(0, 1, (100, 300))))
    assert np.mean(found) == pytest.approx(0.5, abs=0.05)
    assert max(found) < 0.65


def test_different_distributions_are_told_apart_the_more_the_further_they_are() -> None:
    rng = np.random.default_rng(0)
    real, person = rng.normal(0, 1, (100, 300)), rng.normal(0, 1, (100, 300))
    slight, large = (critic_auc(real + shift, person) for shift in (0.1, 1.0))
    assert 0.6 < slight < 0.98 < 0.999 < large


def test_a_person_known_by_heart_does_not_help() -> None:
    """Both pictures of a case are nearly the same: who has learned the one by heart is wrong about the other."""
    real = np.random.default_rng(1).normal(0, 1, (80, 200))
    made = real + np.random.default_rng(2).normal(0, 1e-3, real.shape)
    assert critic_auc(made, real) == pytest.approx(0.5, abs=0.15)


def test_too_few_cases_give_no_figure() -> None:
    few = np.ones((FEWEST_CASES - 1, 4))
    assert math.isnan(critic_auc(few, few))


def test_the_scores_are_those_of_the_best_ridge_logistic_regression() -> None:
    """At the optimum the gradient of the loss and of the squared weights cancel out."""
    rng = np.random.default_rng(3)
    features, labels = rng.normal(0, 1, (40, 12)), np.tile([1.0, 0.0], 20)
    features = (features - features.mean(axis=0)) / (features.std(axis=0) + 1e-6)
    logits = logistic_scores(features, labels, features)
    weights = np.linalg.lstsq(features, logits, rcond=None)[0]
    gradient = features.T @ (1 / (1 + np.exp(-logits)) - labels)
    np.testing.assert_allclose(gradient, -RIDGE * weights, atol=1e-3)


def test_the_area_is_the_share_of_pairs_in_order() -> None:
    assert area_under_curve(np.array([2.0, 3.0]), np.array([0.0, 1.0])) == 1
    assert area_under_curve(np.array([0.0, 1.0]), np.array([1.0, 0.0])) == 0.5


def test_features_are_pooled_in_the_hole_alone() -> None:
    maps = [torch.zeros(1, 2, 8, 8), torch.zeros(1, 3, 4, 4)]
    region = torch.zeros(1, 1, 32, 32)
    region[..., :16, :16] = 1
    maps[0][..., :4, :4], maps[1][..., 2:, :] = 5.0, 9.0
    assert pooled(maps, region).tolist() == [[5, 5, 0, 0, 0]]
