"""Every public function refuses an argument of another kind with an InputError: never a traceback, never a guess."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import nas_relucode as rc
from nas_relucode import InputError, cells, geometry, integrations, qualities, training
from nas_relucode.cells.classes import knn_accuracy
from nas_relucode.cells.neighbours import nearest
from nas_relucode.cells.shards import cut_into_shards
from nas_relucode.geometry.half_spaces import random_inside
from nas_relucode.geometry.segments import same_class_pairs

torch.manual_seed(0)
NETWORK = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))
INPUTS, LABELS = torch.rand(6, 4), torch.tensor([0, 1, 0, 1, 0, 1])
SAMPLE = (INPUTS, LABELS)
IMAGES = (torch.rand(6, 1, 2, 2), LABELS)
OF_IMAGES = nn.Sequential(nn.Flatten(), NETWORK)
CODES = rc.codes.pack([[0, 0, 0], [0, 0, 1], [1, 1, 1]])
SPACE = rc.CodeSpace.of(CODES, labels=[0, 1, 0])
COUNTS = SPACE.class_counts

NO_NUMBER = ("a", [1], {})
NO_WHOLE = (*NO_NUMBER, 1.5, math.nan, True)
NO_POSITIVE = (*NO_WHOLE, None, 0, -1)
NO_COUNT = (*NO_WHOLE, -1)
NO_SHARE = (*NO_NUMBER, None, math.nan, -1, 1.5)
NO_RANGE = (3, "ab", (0, None), (0,), (0, 1, 2), (0, math.nan), ("a", "b"))
NO_NETWORK = ("x", None, 3, INPUTS)

TABLE = {
    "adjacency_graph(theta)": (lambda v: cells.adjacency_graph(SPACE.cells, theta=v), (*NO_COUNT, None)),
    "pairs_within(theta)": (lambda v: cells.pairs_within(CODES, v), NO_COUNT),
    "distance_matrix(theta)": (lambda v: cells.distance_matrix(CODES, theta=v), NO_COUNT),
    "distance_blocks(rows)": (lambda v: list(cells.distance_blocks(CODES, rows=v)), NO_POSITIVE),
    "nearest(k)": (lambda v: nearest(CODES, v), (*NO_POSITIVE, 3)),
    "nearest(threads)": (lambda v: nearest(CODES, 1, threads=v), (*NO_WHOLE, 0, -1)),
    "spanning_tree(threads)": (lambda v: cells.spanning_tree(CODES, threads=v), (*NO_WHOLE, 0, -1)),
    "knn_accuracy(k)": (lambda v: knn_accuracy(CODES, COUNTS, k=v), NO_POSITIVE),
    "separability(k)": (lambda v: cells.separability(SPACE, k=v), NO_POSITIVE),
    "separability(threads)": (lambda v: cells.separability(SPACE, threads=v), (*NO_WHOLE, 0, -1)),
    "theta_connecting(share)": (lambda v: rc.connectivity(CODES).theta_connecting(v), (*NO_SHARE, 0)),
    "cut_into_shards(shards)": (lambda v: cut_into_shards(INPUTS, v), NO_POSITIVE),
    "cut_into_shards(batch_size)": (lambda v: cut_into_shards(INPUTS, 2, batch_size=v), NO_POSITIVE),
    "merge_code_spaces": (cells.merge_code_spaces, ("x", 3, None, [3], [], SPACE)),
    "compute_indices": (rc.compute_indices, ("x", None, 3, CODES)),
    "capture(network)": (lambda v: rc.capture(v, INPUTS), NO_NETWORK),
    "capture(batch_size)": (lambda v: rc.capture(NETWORK, INPUTS, batch_size=v), NO_POSITIVE),
    "code_space(network)": (lambda v: rc.code_space(v, INPUTS), NO_NETWORK),
    "score(network)": (lambda v: rc.score(v, INPUTS), NO_NETWORK),
    "polyhedron(network)": (lambda v: rc.polyhedron(v, INPUTS[0]), NO_NETWORK),
    "polyhedron(point)": (lambda v: rc.polyhedron(NETWORK, v), ("a", None, 3, ["a"], INPUTS)),
    "slice_through(samples)": (lambda v: rc.slice_through(NETWORK, v), ("abc", None, 3, ["a", "b", "c"], INPUTS)),
    "slice_through(reach)": (lambda v: rc.slice_through(NETWORK, INPUTS[:3], reach=v), (*NO_NUMBER, math.nan, 0, -1)),
    "neighbourhood(reach)": (
        lambda v: geometry.neighbourhood(NETWORK, INPUTS[0], reach=v),
        (*NO_NUMBER, math.nan, 0, -1),
    ),
    "random_inside(count)": (lambda v: random_inside([[1.0]], [1.0], [0.5], v, 0), (*NO_COUNT, None)),
    "random_inside(seed)": (lambda v: random_inside([[1.0]], [1.0], [0.5], 1, v), (*NO_COUNT, None)),
    "same_class_pairs(pairs)": (lambda v: same_class_pairs([0, 0, 0], v), NO_POSITIVE),
    "measure(network)": (lambda v: qualities.measure(v, INPUTS), NO_NETWORK),
    "measure(names)": (lambda v: qualities.measure(NETWORK, INPUTS, v), (3, [3], "x", [None], 1.5)),
    "parameters": (qualities.parameters, NO_NETWORK),
    "disk_size": (qualities.disk_size, NO_NETWORK),
    "flops": (lambda v: qualities.flops(v, INPUTS), NO_NETWORK),
    "latency(network)": (lambda v: qualities.latency(v, INPUTS), NO_NETWORK),
    "latency(batch_size)": (lambda v: qualities.latency(NETWORK, INPUTS, batch_size=v), NO_POSITIVE),
    "latency(threads)": (lambda v: qualities.latency(NETWORK, INPUTS, threads=v), NO_POSITIVE),
    "latency(seconds)": (
        lambda v: qualities.latency(NETWORK, INPUTS, seconds=v),
        (*NO_NUMBER, None, math.nan, math.inf, -1),
    ),
    "peak_memory(batch_size)": (lambda v: qualities.peak_memory(NETWORK, INPUTS, batch_size=v), NO_POSITIVE),
    "calibration_error(network)": (lambda v: qualities.calibration_error(v, SAMPLE), NO_NETWORK),
    "calibration_error(bins)": (lambda v: qualities.calibration_error(NETWORK, SAMPLE, bins=v), NO_POSITIVE),
    "confident_accuracy(share)": (lambda v: qualities.confident_accuracy(NETWORK, SAMPLE, share=v), (*NO_SHARE, 0)),
    "pgd_accuracy(steps)": (lambda v: qualities.pgd_accuracy(OF_IMAGES, IMAGES, steps=v), NO_POSITIVE),
    "pgd_accuracy(seed)": (lambda v: qualities.pgd_accuracy(OF_IMAGES, IMAGES, seed=v), (*NO_COUNT, None, 2**70)),
    "noise_accuracy(seed)": (lambda v: qualities.noise_accuracy(OF_IMAGES, IMAGES, seed=v), (*NO_COUNT, None, 2**70)),
    "ood_auroc(seed)": (lambda v: qualities.ood_auroc(OF_IMAGES, IMAGES, seed=v), (*NO_COUNT, None, 2**70)),
    "linear_probe_accuracy(seed)": (
        lambda v: qualities.linear_probe_accuracy(NETWORK, SAMPLE, seed=v),
        (*NO_COUNT, None, 2**70),
    ),
    "noise_accuracy(pixel_range)": (
        lambda v: qualities.noise_accuracy(OF_IMAGES, IMAGES, pixel_range=v),
        NO_RANGE,
    ),
    "measure(pixel_range)": (
        lambda v: qualities.measure(OF_IMAGES, IMAGES, ["noise_accuracy"], pixel_range=v),
        NO_RANGE,
    ),
    "measure of costs(pixel_range)": (
        lambda v: qualities.measure(OF_IMAGES, IMAGES, ["parameters"], pixel_range=v),
        [(0, 1)],
    ),
    "Recorder(pixel_range)": (
        lambda v: rc.Recorder(validation=IMAGES, qualities=["noise_accuracy"], pixel_range=v),
        NO_RANGE,
    ),
    "Recorder of costs(pixel_range)": (lambda v: rc.Recorder(validation=IMAGES, pixel_range=v), [(0, 1)]),
    "Recorder(indices)": (lambda v: rc.Recorder(validation=IMAGES, indices=v), (["latency"], 3)),
    "Recorder(qualities)": (lambda v: rc.Recorder(validation=IMAGES, qualities=v), (["cell_count"], 3)),
    "with_settings": (
        lambda v: qualities.QUALITIES["fgsm_accuracy"].with_settings("weak", **v),
        ({"epsilon": 0.1}, {"forward": None}, {"data": IMAGES}),
    ),
    "embed(seed)": (lambda v: cells.embed(SPACE, seed=v), (*NO_COUNT, 2**70)),
    "network_by_name(model)": (training.network_by_name, (3, None, 1.5, "x", ["resnet18"])),
    "network_by_name(classes)": (lambda v: training.network_by_name("resnet18", classes=v), (*NO_WHOLE, 0, -1)),
    "load_data(validation)": (lambda v: rc.load_data("digits", validation=v), (*NO_SHARE, True, 1)),
    "Recipe(epochs)": (lambda v: rc.Recipe(epochs=v), (*NO_COUNT, None)),
    "Recipe(batch_size)": (lambda v: rc.Recipe(batch_size=v), NO_POSITIVE),
    "Recipe(momentum)": (lambda v: rc.Recipe(momentum=v), (*NO_SHARE, True, 1)),
    "Recipe(weight_decay)": (lambda v: rc.Recipe(weight_decay=v), (*NO_NUMBER, None, math.nan, math.inf, -1)),
    "train_together(seeds)": (
        lambda v: training.train_together(
            [nn.Linear(4, 2)], rc.Split(*SAMPLE), learning_rates=[0.1], seeds=[v], recipe=rc.Recipe(epochs=1)
        ),
        (*NO_COUNT, None),
    ),
    "train_together(networks)": (
        lambda v: training.train_together(
            [v], rc.Split(*SAMPLE), learning_rates=[0.1], seeds=[0], recipe=rc.Recipe(epochs=1)
        ),
        NO_NETWORK,
    ),
    "EpochIndices(every)": (lambda v: integrations.EpochIndices(NETWORK, INPUTS, every=v), NO_POSITIVE),
    "zero_cost_score(net)": (lambda v: integrations.zero_cost_score(v, INPUTS), NO_NETWORK),
    "zero_cost_score(split_data)": (lambda v: integrations.zero_cost_score(NETWORK, INPUTS, split_data=v), NO_POSITIVE),
}


@pytest.mark.parametrize(
    ("function", "value"),
    [
        pytest.param(function, value, id=f"{name}={value!r:.20}")
        for name, (function, values) in TABLE.items()
        for value in values
    ],
)
def test_a_wrong_argument_is_refused(function, value):
    with pytest.raises(InputError):
        function(value)


def test_whole_numbers_of_numpy_are_whole_numbers():
    recipe = rc.Recipe(epochs=np.int64(3), batch_size=np.int32(8))
    assert recipe == rc.Recipe(epochs=3, batch_size=8)
    assert type(recipe.epochs) is type(recipe.batch_size) is int  # as JSON takes it
    assert qualities.latency(NETWORK, INPUTS, batch_size=np.int64(2), seconds=0).batch_size == 2
    assert cells.adjacency_graph(SPACE.cells, theta=np.int64(2)).theta == 2
