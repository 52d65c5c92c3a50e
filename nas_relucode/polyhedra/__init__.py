"""Cells as exact polyhedra (Theorem 1): facets, vertices, all cells of a small network, slices."""
