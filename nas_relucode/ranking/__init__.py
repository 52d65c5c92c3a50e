"""Which networks of a study are equal, worse or cannot be told apart, their order by the indices, and the verdict."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
