"""Rank equally accurate networks by their ReLU code space. The names below stand in reading order."""

from nas_relucode.errors import InputError
from nas_relucode.data import ImageData, Split, load_data
from nas_relucode.networks import Autoencoder, Network, build_autoencoder, build_backbone, build_network
from nas_relucode.named_networks import network_by_name
from nas_relucode.recipes import Recipe
from nas_relucode.training import train
from nas_relucode.together import train_together
from nas_relucode.frozen import frozen_features
from nas_relucode.codes import Codes, pack
from nas_relucode.capturing import CodeBatch, Reading, capture, capture_batches
from nas_relucode.hamming import distance_blocks, distance_histogram, distance_matrix
from nas_relucode.neighbours import Pairs, pairs_within
from nas_relucode.spanning import SpanningTree, spanning_tree
from nas_relucode.cells import Cells, find_cells
from nas_relucode.adjacency import AdjacencyGraph, adjacency_graph
from nas_relucode.linkage import Connectivity, connectivity
from nas_relucode.code_spaces import CodeSpace, code_space, merge_code_spaces
from nas_relucode.stored_spaces import load_code_space, save_code_space
from nas_relucode.separation import separability
from nas_relucode.embedding import Embedding, embed
from nas_relucode.segments import Crossings, crossings
from nas_relucode.programs import Program, read_program
from nas_relucode.borders import Margins, margins
from nas_relucode.polyhedra import Polyhedron, polyhedron
from nas_relucode.complexes import Complex, Plane, complex_of
from nas_relucode.slices import Slice, neighbourhood, slice_through
from nas_relucode.audit import Audit, audit
from nas_relucode.evidence import Evidence
from nas_relucode.indices import INDICES, compute_indices
from nas_relucode.scoring import Score, score
from nas_relucode.zero_cost import measure
from nas_relucode.search_space import Candidate, SearchSpace, load_search_space
from nas_relucode.slice_figures import slice_figure
from nas_relucode.objective import Objective
from nas_relucode.study_settings import StudySettings, load_settings
from nas_relucode.study import run_study
from nas_relucode.predictions import Predictions, predict
from nas_relucode.ranking import Ranking, rank
from nas_relucode.selection import Selection, select
from nas_relucode.adapters import run_candidate
from nas_relucode.epoch_indices import EpochIndices
from nas_relucode.report import write_report
from nas_relucode.figure_study import draw_figure
