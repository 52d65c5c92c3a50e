"""Hamming distances of packed codes: all of them, the near pairs, the minimum spanning tree."""
