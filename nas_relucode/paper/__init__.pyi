from .figure_study import draw_figure as draw_figure
