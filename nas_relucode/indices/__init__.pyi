from .inputs import Evidence as Evidence
from .registry import INDICES as INDICES
from .registry import compute_indices as compute_indices
