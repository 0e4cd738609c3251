"""Memory that workers share: each thing is made once for all of them."""

from __future__ import annotations

import multiprocessing
import pickle
from pathlib import Path

import numpy as np
import pytest

from train.config import RECIPES
from train.data.face_set import FaceSet
from train.shared_memory import SharedAnswers, SharedRows
from train.tasks.restore import RestoreTask


def in_a_forked_process(call: object) -> None:
    process = multiprocessing.get_context("fork").Process(target=call)
    process.start()
    process.join(60)
    assert process.exitcode == 0


def never() -> np.ndarray:
    raise AssertionError("it was made already")


def test_what_a_worker_made_no_other_process_makes() -> None:
    rows = SharedRows(3, (2, 2))
    in_a_forked_process(lambda: rows.get(1, lambda: np.full((2, 2), 7)))
    assert (rows.get(1, never) == 7).all()
    with pytest.raises(AssertionError):
        rows.get(0, never)


def test_what_a_worker_was_told_no_other_process_asks() -> None:
    answers = SharedAnswers()
    in_a_forked_process(lambda: [answers.get("hidden", lambda: False), answers.get("bare", lambda: True)])
    assert answers.get("bare", never) is True and answers.get("hidden", never) is False
    with pytest.raises(AssertionError):
        answers.get("other", never)


def test_names_that_collide_are_asked_again_and_never_mixed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SharedAnswers, "_SLOTS", 1)
    answers = SharedAnswers()
    assert [answers.get(name, lambda name=name: name == "a") for name in "abab"] == [True, False, True, False]


def test_elsewhere_it_starts_empty() -> None:
    rows = SharedRows(2, (1,))
    rows.get(0, lambda: np.ones(1))
    with pytest.raises(AssertionError):
        pickle.loads(pickle.dumps(rows)).get(0, never)


def test_workers_of_the_restorer_share_its_decoded_faces(small_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = RestoreTask(RECIPES["restore", "debug"], small_data)
    task.open_data()
    in_a_forked_process(lambda: [task.sample(np.random.default_rng(seed)) for seed in range(12)])
    monkeypatch.setattr(FaceSet, "_decoded", lambda self, index: never())
    assert task.sample(np.random.default_rng(0))["truth"].any()
