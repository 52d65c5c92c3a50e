from .claims import compare_curves as compare_curves
from .depth_claims import separability_claim as separability_claim
from .figure_study import draw_figure as draw_figure
from .numbers import clustering_frame as clustering_frame
