"""Defaults that the command line shows, apart from the code that uses them so that commands parse quickly."""

MARGIN = 0.005  # a difference of accuracies that does not matter
