"""Which networks of a study are equally accurate, and their order by the indices."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
