"""What a study leaves open is said, or refused: networks named alike, networks that ended early, others' attributes."""

import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import optuna
import pytest
import torch
from torch import nn

from nas_relucode import InputError, Recorder, compare, reseed, select, write_report
from nas_relucode.qualities import Quality
from nas_relucode.study.storage import study_in_memory

GENERATOR = torch.Generator().manual_seed(0)
INPUTS = torch.randn(300, 2, generator=GENERATOR)
LABELS = (INPUTS[:, 0] * INPUTS[:, 1] > 0).long()


def network(seed=0, width=8):
    torch.manual_seed(1000 * seed + width)
    return nn.Sequential(nn.Linear(2, width), nn.ReLU(), nn.Linear(width, 2))


def recorder(**options):
    return Recorder(validation=(INPUTS, LABELS), objectives=["accuracy", "parameters"], **options)


def trained(record, trainings, before=None, parameter="w"):
    """A study in which each of the trainings, values of a parameter with seeds, is a trial."""
    study = study_in_memory(study_name="open", directions=record.directions)
    choices = list(dict.fromkeys(value for value, _ in trainings))
    for value, seed in trainings:
        study.enqueue_trial({parameter: value})

        def objective(trial, seed=seed):
            value = trial.suggest_categorical(parameter, choices)
            trial.set_user_attr("seed", seed)
            if before:
                before(trial, value, seed)
            width = value if isinstance(value, int) and value > 1 else 8
            return record(trial, network(seed, width), seed=seed)

        study.optimize(objective, n_trials=1, catch=(ZeroDivisionError,))
    return study


@pytest.mark.parametrize("values", [(None, "none"), (True, "true"), (1, "1"), ("a\nb", "a b"), (2.0, "2.0")])
def test_different_networks_are_never_taken_for_one(values):
    study = trained(recorder(), [(value, seed) for value in values for seed in (0, 1)])
    selection = select(study)
    assert selection.networks["network"].is_unique
    assert selection.networks["seeds"].tolist() == [2, 2]
    assert sorted(map(repr, values)) == sorted(repr(p["w"]) for p in selection.source.params.values())


def test_compared_networks_whose_names_look_alike_stay_apart():
    names = ["a\n", "a ", "a\u200b", "", "network"]
    selection = compare({name: network(seed) for seed, name in enumerate(names)}, (INPUTS, LABELS))
    assert len(selection.networks) == selection.networks["network"].nunique() == 5


def never(trial, value, seed):
    if value == 16 and seed > 0:
        raise optuna.TrialPruned("diverged")


def failing(trial, value, seed):
    if value == 16:
        raise ZeroDivisionError


def test_a_network_that_the_user_prunes_with_some_seed_is_not_compared():
    selection = select(trained(recorder(), [(w, seed) for w in (8, 16) for seed in (0, 1, 2)], never))
    assert selection.networks.set_index("network").loc["w=16", ["pruned", "feasible"]].tolist() == [2, False]
    assert "w=16 (pruned with some seed)" in selection.verdict.text


def test_a_seed_that_was_pruned_and_then_completed_is_complete():
    study = trained(recorder(), [(8, 0), (16, 0), (16, 1)], never)
    again = trained(recorder(), [(16, 1)])
    study.add_trial(again.trials[0])
    assert select(study).networks["pruned"].tolist() == [0, 0]


def test_a_pruned_trial_whose_seed_is_not_known_is_named_and_excludes_no_network():
    """As with Optuna's pruners where the same parameters are suggested twice."""
    study = trained(recorder(), [(8, 0), (16, 0)])
    study.enqueue_trial({"w": 16})

    def pruned(trial):
        trial.suggest_categorical("w", [8, 16])
        raise optuna.TrialPruned

    study.optimize(pruned, n_trials=1)
    selection = select(study)
    assert selection.networks["feasible"].all()
    assert any("w=16" in note and "trials 2" in note for note in selection.notes)


@pytest.mark.parametrize("ending", [failing, lambda t, value, seed: never(t, value, 1)])
def test_a_network_without_a_complete_trial_is_named(ending):
    selection = select(trained(recorder(), [(w, seed) for w in (8, 16) for seed in (0, 1)], ending))
    assert selection.networks["network"].tolist() == ["w=8"]
    assert any("w=16" in note for note in selection.notes)


def test_trainings_that_failed_are_named():
    def fails(trial, value, seed):
        if seed == 1:
            raise ZeroDivisionError

    selection = select(trained(recorder(), [(w, seed) for w in (8, 16) for seed in (0, 1)], fails))
    assert any("w=8, w=16" in note and "trials 1, 3" in note for note in selection.notes)


def test_reseed_counts_what_was_pruned_apart():
    study = trained(recorder(), [(8, 0), (16, 0)])

    def objective(trial, seed):
        width = trial.suggest_categorical("w", [8, 16])
        if width == 16:
            raise optuna.TrialPruned
        return recorder()(trial, network(seed, width), seed=seed)

    ended = reseed(study, objective, seeds=[1, 2])
    assert [study.trials[number].state.name for number in ended.pruned] == ["PRUNED"]  # its network then drops out
    assert all(study.trials[number].state.name == "COMPLETE" for number in ended.trained)
    assert len(study.trials) == 2 + len(ended.trained) + len(ended.pruned)
    assert "1 pruned" in str(ended)


@pytest.mark.parametrize(
    "accuracy", [np.float32(0.9), torch.tensor(0.9), np.array(0.9), Fraction(9, 10), Decimal("0.9"), 1]
)
def test_an_accuracy_of_any_type_can_be_recorded_and_ranked(accuracy, tmp_path):
    record = recorder()
    study = optuna.create_study(directions=record.directions, storage=f"sqlite:///{tmp_path}/study.db")
    study.optimize(lambda trial: record(trial, network(), accuracy=accuracy), n_trials=1)
    assert select(study).networks["accuracy"].tolist() == [pytest.approx(float(accuracy))]


@pytest.mark.filterwarnings("ignore:Choices for a categorical distribution")
@pytest.mark.parametrize("value", [(16,), [32, 16]])
def test_parameters_that_no_record_holds_are_refused_at_the_first_trial(value):
    record = recorder()
    study = study_in_memory(study_name="lists", directions=record.directions)
    with pytest.raises(InputError, match=r"the parameter w has the value .* Let the trial suggest"):
        study.optimize(lambda t: record(t, network(width=t.suggest_categorical("w", [value])[0])), n_trials=1)


def test_a_constraint_of_the_users_is_named_and_no_seed_makes_up_for_another():
    def over(trial, value, seed):
        trial.set_constraint("memory", 0.5 if value == 16 and seed == 0 else -5.0)

    selection = select(trained(recorder(), [(w, seed) for w in (8, 16) for seed in (0, 1, 2)], over))
    assert "w=16 (violates memory)" in selection.verdict.text
    assert "floor" not in selection.verdict.text
    nothing = select(trained(recorder(), [(8, 0), (16, 0)], lambda t, value, seed: t.set_constraint("memory", 1.0)))
    assert "(memory): 2" in nothing.verdict.text
    with pytest.raises(InputError, match="relax the constraints"):
        nothing.best  # noqa: B018 - a property that raises


@pytest.mark.parametrize("settings", [{"margin": 0.3, "lr": 0.1}, {"margin": True}, 5, "search this", {"search": [1]}])
def test_settings_of_somebody_else_change_nothing(settings, tmp_path):
    study = trained(recorder(), [(8, 0), (16, 0)])
    study.set_user_attr("settings", settings)
    assert select(study).ranking.margin == 0.005
    write_report(study, tmp_path)


def test_different_margins_are_said_and_the_smallest_is_used():
    study = trained(recorder(margin=0.2), [(8, 0)])
    study.add_trial(trained(recorder(margin=0.005), [(16, 0)]).trials[0])
    selection = select(study)
    assert selection.ranking.margin == 0.005
    assert any("0.005, 0.2" in note for note in selection.notes)
    assert not any("different margins" in note for note in select(study, margin=0.1).notes)


@pytest.mark.parametrize("name", ["low", "high", "relucode", "reseed", "network", "seed"])
def test_names_that_would_replace_something_are_refused(name):
    own = Quality(name, "", "minimize", "m", lambda network, inputs, forward=None: 1.0)
    with pytest.raises(InputError, match=f"called '{name}'"):
        recorder(qualities=[own])


NETWORKS = {"a": network(0), "b": network(1, 16)}


@pytest.mark.parametrize(
    "options",
    [
        {"level": None},
        {"level": np.array([0.01, 0.1])},
        {"level": math.nan},
        {"purpose": ["noise"]},
        {"by": [()]},
        {"how": "weighted", "by": ["parameters", "cell_count"], "weights": {"parameters": 1e308, "cell_count": 1e308}},
    ],
)
def test_options_of_another_kind_are_refused(options):
    with pytest.raises(InputError):
        compare(NETWORKS, (INPUTS, LABELS), **options)
    with pytest.raises(InputError):
        select(trained(recorder(), [(8, 0), (16, 0)]), **options)


def test_a_name_that_is_no_text_for_a_file_is_written_with_escapes(tmp_path):
    selection = compare({"a\ud800": NETWORKS["a"], "b": NETWORKS["b"]}, (INPUTS, LABELS))
    write_report(selection, tmp_path)
    assert "\\ud800" in (tmp_path / "trials.csv").read_text("utf-8")


def test_what_is_needed_to_tell_networks_is_more_than_there_is():
    """Also where seeds differ so much that no difference of accuracies could be shown."""
    for seed in range(30):
        drawn = np.random.default_rng(seed)
        spread = float(drawn.choice([0.001, 0.02, 0.3]))
        trainings = {
            name: {s: network(s, int(drawn.integers(2, 20))) for s in range(int(drawn.integers(2, 4)))}
            for name in "abc"
        }
        selection = compare(trainings, (INPUTS + spread * torch.randn(INPUTS.shape), LABELS))
        comparison = selection.comparison
        assert (comparison["low"].dropna() >= -1).all()
        assert (comparison["high"].dropna() <= 1).all()
        others = comparison[comparison["smallest_difference"] > 1.1 * selection.ranking.margin]
        seeds = selection.networks.loc[others.index, "seeds"]
        needed = others["seeds_needed"]
        assert (needed.isna() | (needed >= seeds)).all()
        assert (others["samples_needed"].dropna() > 0).all()
