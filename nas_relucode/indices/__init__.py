"""Numbers read off codes, cells and geometry, one class per index."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
