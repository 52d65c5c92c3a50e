from .candidates import run_candidate as run_candidate
from .epoch_indices import EpochIndices as EpochIndices
from .zero_cost import zero_cost_score as zero_cost_score
