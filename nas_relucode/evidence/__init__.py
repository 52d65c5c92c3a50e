"""Whether an index says what accuracy does not: families of trained networks, and what choosing by an index is worth."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
