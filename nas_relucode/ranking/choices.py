"""The names of the rules that decide who is a finalist, and of orders, apart from their code so that commands parse quickly."""

RULES = ("1se", "margin")
HOW = ("pareto", "lexicographic", "weighted")
SCALES = ("ranks", "standardised")
LEVEL = 0.05  # of every test; the confidence of intervals is 1 - LEVEL
MARGIN = 0.005  # a smaller difference of accuracies does not matter
