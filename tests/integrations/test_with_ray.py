"""Ray Tune in a process of its own: its space, OptunaSearch over the objectives, and trials that diverge."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest

from nas_relucode.errors import InputError
from nas_relucode.integrations.ray_tune import ray_search

SCRIPT = """
import json
import sys
import nas_relucode as rc
import ray
from nas_relucode.study.search_space import Interval
from nas_relucode.integrations.ray_tune import ray_search, ray_space, ray_trainable
from ray import tune

NAMES = ["accuracy", "cell_count"]
SPACE = rc.SearchSpace(heads=("8", "4-4"), learning_rates=(0.1, 1e30))


def make():
    data = rc.load_data("digits", classes=(0, 1), train_samples=100, test_samples=20, validation=0.3)
    return rc.Objective(
        data,
        SPACE,
        network=rc.NetworkSettings(backbone="none"),
        recipe=rc.Recipe(epochs=3, batch_size=35),
        device="cpu",
    )


ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
search = ray_search(NAMES, seed=0, points_to_evaluate=[
    {"head": "8", "learning_rate": 0.1}, {"head": "8", "learning_rate": 1e30}, {"head": "4-4", "learning_rate": 0.1}
])
config = tune.TuneConfig(search_alg=search, num_samples=3)
run = tune.RunConfig(storage_path=sys.argv[1], verbose=0, callbacks=[])
results = tune.Tuner(
    ray_trainable(make, every_epoch=True), param_space=ray_space(SPACE), tune_config=config, run_config=run
).fit()
study = search._ot_study
drawn = ray_space(rc.SearchSpace(heads=("8",), learning_rates=Interval(0.01, 0.1)), seeds=(0, 1))
print("FOUND", json.dumps({
    "runs": [
        {"config": result.config, "error": str(result.error or ""), "metrics": result.metrics and {
            name: result.metrics.get(name) for name in [*NAMES, "head.1:cell_count", "epoch", "training_iteration"]
        }}
        for result in results
    ],
    "directions": [direction.name for direction in study.directions],
    "trials": [[trial.state.name, trial.params, trial.values] for trial in study.trials],
    "space": {name: type(domain).__name__ for name, domain in drawn.items()},
}))
"""


@pytest.mark.slow
def test_every_epoch_and_every_trial_is_reported_to_optuna(tmp_path):
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray Tune is not installed")
    (tmp_path / "script.py").write_text(SCRIPT)
    more = {"HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "script.py", str(tmp_path / "results")]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | more, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-5000:]
    results = json.loads(done.stdout.split("FOUND ")[1].splitlines()[0])
    assert results["directions"] == ["MAXIMIZE", "MINIMIZE"]
    assert results["space"] == {"head": "Categorical", "learning_rate": "Float", "seed": "Categorical"}
    by_config = {(run["config"]["head"], run["config"]["learning_rate"]): run for run in results["runs"]}
    assert set(by_config) == {("8", 0.1), ("8", 1e30), ("4-4", 0.1)}
    assert "stopped being finite in epoch 1" in by_config["8", 1e30]["error"]
    expected = []
    for head in ("8", "4-4"):
        run = by_config[head, 0.1]
        assert not run["error"]
        assert run["metrics"]["epoch"] == run["metrics"]["training_iteration"] == 3
        values = [run["metrics"]["accuracy"], run["metrics"]["cell_count"]]
        expected.append(["COMPLETE", {"head": head, "learning_rate": 0.1}, values])
    expected.insert(1, ["FAIL", {"head": "8", "learning_rate": 1e30}, None])
    assert results["trials"] == expected


def test_no_objectives_are_refused():
    with pytest.raises(InputError, match="objectives is empty"):
        ray_search([])
