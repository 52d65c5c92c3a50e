"""What people want of a network besides accuracy: low cost, robustness, calibration, compression."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
