from .slices import slice_figure as slice_figure
