"""What people want of a network besides accuracy: what it costs to run and to store."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
