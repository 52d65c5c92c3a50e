"""The same score and objective in Ray Tune, Ax, Syne Tune, Lightning and the zero-cost packages."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
