"""The names of the rules that decide equality and order, apart from their code so that commands parse quickly."""

RULES = ("margin", "1se")  # who is a finalist, see `ranking.equality.judge`
TOLERANCES = ("1se", "mcnemar", "bootstrap")
HOW = ("pareto", "lexicographic", "weighted")
SCALES = ("ranks", "standardised")
LEVEL = 0.05  # of every test; the confidence of intervals is 1 - LEVEL
MARGIN = 0.005  # the difference of accuracies that does not matter
