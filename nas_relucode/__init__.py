"""Rank equally accurate networks by their ReLU code space.

The folders in reading order; up to ``indices`` they know neither training nor Optuna:

    codes      the binary codes of a network's ReLUs, read while it runs
    hamming    distances of codes: all, the near pairs, the minimum spanning tree
    cells      distinct codes are cells: their graph, its clusters, who lies in them
    programs   a network as linear operations and bends, walked through from cell to cell
    polyhedra  cells as exact polyhedra: facets, all cells of a small network, slices
    indices    the numbers that say how a code space looks
    training   data sets, the heads of Table 1, the recipe, its fast steps
    scoring    accuracy beside the indices of a network
    studies    the Optuna objective, and a study of heads, learning rates and seeds
    workers    many processes on one study: plan, work, status
    ranking    who is equally accurate, in which order, and how firm that is
    adapters   the same score where another framework has the study
    paper      the figures of the paper, and whether its claims hold
    report     the page, the pictures and the tables that show a study
    commands   the command line
"""

from nas_relucode.errors import InputError
from nas_relucode.training.data import ImageData, Split, load_data
from nas_relucode.training.networks import Autoencoder, Network, build_autoencoder, build_backbone, build_network
from nas_relucode.training.named_networks import network_by_name
from nas_relucode.training.recipes import Recipe
from nas_relucode.training.training import train
from nas_relucode.training.together import train_together
from nas_relucode.training.frozen import frozen_features
from nas_relucode.codes.codes import Codes, pack
from nas_relucode.codes.capturing import CodeBatch, Reading, capture, capture_batches
from nas_relucode.hamming.hamming import distance_blocks, distance_histogram, distance_matrix
from nas_relucode.hamming.neighbours import Pairs, pairs_within
from nas_relucode.hamming.spanning import SpanningTree, spanning_tree
from nas_relucode.cells.cells import Cells, find_cells
from nas_relucode.cells.adjacency import AdjacencyGraph, adjacency_graph
from nas_relucode.cells.linkage import Connectivity, connectivity
from nas_relucode.cells.code_spaces import CodeSpace, code_space
from nas_relucode.cells.merging import merge_code_spaces
from nas_relucode.cells.stored_spaces import load_code_space, save_code_space
from nas_relucode.cells.distributed import code_space_of_shards
from nas_relucode.cells.separation import separability
from nas_relucode.cells.embedding import Embedding, embed
from nas_relucode.programs.segments import Crossings, crossings
from nas_relucode.programs.programs import Program, read_program
from nas_relucode.programs.borders import Margins, margins
from nas_relucode.polyhedra.polyhedra import Polyhedron, polyhedron
from nas_relucode.polyhedra.complexes import Complex, Plane, complex_of
from nas_relucode.polyhedra.slices import Slice, neighbourhood, slice_through
from nas_relucode.polyhedra.audit import Audit, audit
from nas_relucode.indices.evidence import Evidence
from nas_relucode.indices.indices import INDICES, compute_indices
from nas_relucode.scoring.scoring import Score, score
from nas_relucode.scoring.zero_cost import measure
from nas_relucode.studies.search_space import Candidate, SearchSpace, load_search_space
from nas_relucode.studies.slice_figures import slice_figure
from nas_relucode.studies.objective import Objective
from nas_relucode.studies.study_settings import StudySettings, load_settings
from nas_relucode.studies.study import run_study
from nas_relucode.studies.predictions import Predictions, predict
from nas_relucode.workers.planning import plan_study
from nas_relucode.workers.worker import work
from nas_relucode.workers.status import study_status
from nas_relucode.ranking.ranking import Ranking, rank
from nas_relucode.ranking.selection import Selection, select
from nas_relucode.adapters.candidates import run_candidate
from nas_relucode.adapters.epoch_indices import EpochIndices
from nas_relucode.report.report import write_report
from nas_relucode.paper.figure_study import draw_figure
