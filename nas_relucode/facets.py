"""Placeholder until helper A's file comes: overwrite it."""
class Facets: pass
def find_facets(*a, **k): raise NotImplementedError
