"""The names of the rules of a ranking and their defaults, apart from their code so that commands parse quickly."""

RULES = ("1se", "margin")  # who is a finalist, see `ranking.equality.judge`
HOW = ("pareto", "lexicographic", "weighted")
SCALES = ("ranks", "standardised")
LEVEL = 0.05  # of every test; the confidence of intervals is 1 - LEVEL
PURPOSES = {  # what networks are chosen for -> the quality that says how good they are for it
    "noise": "noise_accuracy",
    "corruptions": "corruption_accuracy",
    "adversarial": "pgd_accuracy",
    "calibration": "calibration_error",
    "out-of-distribution": "ood_auroc",
    "selective": "confident_accuracy",
    "blur": "blur_accuracy",
    "rotation": "rotation_accuracy",
    "translation": "translation_accuracy",
    "pruning": "pruned_accuracy",
    "rounding": "rounded_accuracy",
}
