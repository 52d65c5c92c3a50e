"""Five trials of the default problem, and the networks on its Pareto front."""

import optuna

import optunahub

problem = optunahub.load_module("benchmarks/relu_code_space").Problem()
study = optuna.create_study(directions=problem.directions)
study.optimize(problem, n_trials=5)
for trial in study.best_trials:
    print(trial.params, dict(zip(problem.metric_names, trial.values, strict=True)))
