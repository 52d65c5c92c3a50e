"""A network as linear pieces: its cells as exact polyhedra, their facets, slices, segments and margins."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
