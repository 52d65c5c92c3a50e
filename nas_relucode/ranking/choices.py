"""The words by which a ranking is asked for: how equality is decided, and how indices order equal networks."""

RULES = ("1se", "mcnemar", "bootstrap")
HOW = ("pareto", "lexicographic", "weighted")
SCALES = ("ranks", "standardised")
LEVEL = 0.05  # of every test; intervals are of 1 - LEVEL
