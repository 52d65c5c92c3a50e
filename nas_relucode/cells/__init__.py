"""Distinct codes are the cells that the data occupies: their graph, its clusters, and who lies in them."""
