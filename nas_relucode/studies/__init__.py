"""An Optuna study of heads, learning rates and seeds: its objective, its settings, its trials."""
