from .candidates import run_candidate as run_candidate
from .epoch_indices import EpochIndices as EpochIndices
from .zero_cost import measure as measure
