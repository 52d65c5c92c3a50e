"""The Optuna objective, what a trial records, and a study of heads, learning rates and seeds."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
