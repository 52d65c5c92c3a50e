"""The names of the rules of a ranking and their defaults, apart from their code so that commands parse quickly."""

RULES = ("1se", "margin")  # who is a finalist, see `ranking.equality.judge`
HOW = ("pareto", "lexicographic", "weighted")
SCALES = ("ranks", "standardised")
LEVEL = 0.05  # of every test; the confidence of intervals is 1 - LEVEL
