"""The hand-made trials of other tests have the shape of real ones."""

import optuna
from hand_made import OBJECTIVES, hand_made

from nas_relucode.study.objective import Objective
from nas_relucode.study.record import ATTRIBUTE
from nas_relucode.study.search_space import SearchSpace
from nas_relucode.study.settings import NetworkSettings
from nas_relucode.training.data import load_data
from nas_relucode.training.recipe import Recipe


def test_hand_made_trials_look_like_those_of_an_objective():
    data = load_data("digits", classes=[0, 1], train_samples=60, test_samples=20, validation=0.3)
    space = SearchSpace(heads=("4",), learning_rates=(0.1,))
    study = optuna.create_study(directions=list(OBJECTIVES.values()))
    objective = Objective(
        data, space, network=NetworkSettings(backbone="none"), recipe=Recipe(epochs=1), accuracy_floor=0.0, device="cpu"
    )
    study.optimize(objective, n_trials=1)
    real, ours = study.trials[0].user_attrs[ATTRIBUTE], hand_made().user_attrs[ATTRIBUTE]
    assert set(real) == set(ours)
    assert set(real["params"]) == set(ours["params"])
    assert set(real["qualities"]) == set(ours["qualities"])
    assert set(real["validation"]) == set(ours["validation"])
    assert set(real["curve"][0]) == set(ours["curve"][0])
    assert set(real["joint"]) >= set(ours["joint"])
