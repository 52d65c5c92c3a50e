"""The figures of the paper, and whether its claims hold."""
