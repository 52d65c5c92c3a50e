"""The binary codes of a network's ReLUs: what a forward pass's ReLUs do, kept as packed bits."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
