"""Which networks of an Optuna study are equally accurate, what else distinguishes them, and which one to choose.

The stations in reading order; up to ``indices`` they know neither training nor Optuna:

    codes        the binary codes of a network's ReLUs: what a forward pass's ReLUs do, kept as packed bits
    cells        distinct codes are occupied cells: their Hamming distances, graph and clusters
    geometry     a network as linear pieces: its cells as exact polyhedra, their facets, slices, segments and margins
    indices      numbers read off codes, cells and geometry, one pure function an index
    qualities    what people want besides accuracy: accuracy on changed samples, calibration, detection, size, speed
    training     data sets, the networks of Table 1, the training recipe and checkpoints
    scoring      the accuracy and the indices of one network
    study        the Optuna objective, what a trial records, and a study of heads, learning rates and seeds
    workers      many processes on one study: plan, work, status
    ranking      which networks of a study are equal, their order by the indices, the verdict
    plots        the figures of reports and of the paper, drawn with matplotlib
    integrations the same score and objective in Ray Tune, Ax, Syne Tune, Lightning and the zero-cost packages
    paper        the figures of the paper, and whether its claims hold
    report       the page, the pictures and the tables that show a study
    evidence     whether indices say of equally accurate networks what accuracy does not
    cli          the command line, one module per command

Names are imported when they are first used.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
