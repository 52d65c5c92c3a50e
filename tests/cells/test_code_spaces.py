"""Code spaces in batches, in shards or at once, layer by layer, and the samples in their cells."""

import copy

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from nas_relucode import CodeSpace, InputError, build_network, capture, code_space
from nas_relucode.cells import find_cells, merge_code_spaces, pairs_within
from nas_relucode.codes import pack

BITS = arrays.arrays(bool, st.tuples(st.integers(1, 30), st.sampled_from([1, 3, 65])))


def sample(samples=300, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 10, (samples,), generator=generator)
    images = torch.rand(samples, 1, 8, 8, generator=generator) * (labels / 20).reshape(-1, 1, 1, 1)
    return images.round(decimals=1), labels


@pytest.fixture(scope="module")
def network():
    return build_network("12-6", (1, 8, 8), 10, backbone="small_conv", seed=1)


def assert_same(one, other):
    for name in ("sizes", "first", "cell_of"):
        assert np.array_equal(getattr(one.cells, name), getattr(other.cells, name)), name
    assert np.array_equal(one.codes.words, other.codes.words)
    assert one.codes.layers == other.codes.layers
    for name in ("class_counts", "correct_counts"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
    assert one.settings == other.settings


def test_a_code_space_counts_the_samples_of_each_cell_by_class_and_the_correct_ones(network):
    images, labels = sample()
    space = code_space(network, (images, labels), layers="head", batch_size=37)
    bits = capture(network, images, layers="head").bits()
    right = (network.eval()(images).argmax(dim=1) == labels).numpy()
    cell_of = np.unique(bits, axis=0, return_inverse=True)[1].reshape(-1)  # numpy 2.0.0 returns a column
    for cell in range(len(space.cells)):
        inside = space.cells.cell_of == cell
        assert len(set(cell_of[inside])) == 1
        assert not np.isin(cell_of[~inside], cell_of[inside]).any()
        assert np.array_equal(space.class_counts[cell], np.bincount(labels.numpy()[inside], minlength=10))
        assert space.correct_counts[cell] == right[inside].sum()
    assert (space.settings["layers"], space.settings["mode"], space.settings["dtype"]) == (["head"], "eval", "float32")
    assert np.array_equal(space.sample_codes(300).bits(), bits)
    assert np.array_equal(space.sample_codes(np.array([5, 2])).bits(), bits[[5, 2]])


def test_tensors_loaders_and_iterators_give_the_same(network):
    images, labels = sample()
    whole = code_space(network, (images, labels), batch_size=300)
    assert_same(code_space(network, DataLoader(TensorDataset(images, labels), batch_size=64)), whole)
    assert_same(code_space(network, zip(images.split(29), labels.split(29), strict=True)), whole)
    unlabelled = code_space(network, iter(images.split(50)))
    assert unlabelled.class_counts is None
    assert unlabelled.correct_counts is None
    assert np.array_equal(unlabelled.cells.sizes, whole.cells.sizes)


@given(BITS, st.randoms(use_true_random=False))
def test_a_layer_is_the_code_space_of_its_own_bits(bits, random):
    labels = np.array([random.randrange(3) for _ in bits])
    correct = np.array([random.random() < 0.5 for _ in bits])
    pixels = torch.from_numpy(bits.astype(np.float32))
    halves = nn.Sequential(nn.ReLU(), nn.Linear(bits.shape[1], 2), nn.ReLU())
    codes = capture(halves, pixels)
    space = CodeSpace.of(codes, labels, correct)
    for layer in ("0", "2"):
        assert_same(space.layer(layer), CodeSpace.of(codes.layer(layer), labels, correct))


@given(BITS, st.integers(0, 30))
def test_cells_shared_with_another_sample_have_equal_codes(bits, split):
    one, other = bits[:split], bits[split:]
    if not len(one) or not len(other):
        return
    shared = CodeSpace.of(pack(other)).occupied_by(CodeSpace.of(pack(one)))
    cells = find_cells(pack(other)).codes.bits()
    assert shared.tolist() == [any((cell == row).all() for row in one) for cell in cells]


def test_cells_by_class_are_counted_class_by_class():
    space = CodeSpace.of(pack([[0], [0], [1], [0]]), labels=[0, 1, 1, 1])
    assert space.cells_by_class().tolist() == [1, 2]
    with pytest.raises(InputError, match="no labels"):
        CodeSpace.of(pack([[0]])).cells_by_class()


def test_shards_of_other_networks_or_settings_are_refused(network):
    images, labels = sample(20)
    one = code_space(network, (images, labels), layers="head")
    for other in (
        code_space(network, (images, labels), layers="head.1"),
        code_space(network, images, layers="head"),
        code_space(network, (images, labels), layers="head", preset="released_code"),
    ):
        with pytest.raises(InputError, match="shard 2 differs from shard 0"):
            merge_code_spaces([one, one, other])
    with pytest.raises(InputError, match="no code spaces"):
        merge_code_spaces([])
    with pytest.raises(InputError, match="layers"):
        one.occupied_by(code_space(network, images, layers="head.1"))


def test_a_code_space_is_printed_with_its_layers(network):
    space = code_space(network, sample(20))
    title, head, *layers = repr(space).splitlines()
    assert f"20 samples in {len(space.cells)} cells" in title
    assert head.split() == ["layer", "neurons", "activation"]
    assert [line.split()[0] for line in layers] == [layer.name for layer in space.codes.layers]
    assert space._repr_html_().count("<tr>") == 1 + len(layers)


def test_labels_for_some_batches_only_are_an_error(network):
    images, labels = sample(20)
    with pytest.raises(InputError, match=r"sample 10 .* Label all or none"):
        code_space(network, iter([(images[:10], labels[:10]), images[10:]]))
    with pytest.raises(InputError, match="no samples"):
        code_space(network, iter([]))
    with pytest.raises(InputError, match=r"the largest is 11, but the network has 10 outputs"):
        code_space(network, (images, torch.full((20,), 11)))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cells_and_edges_on_a_gpu_are_those_of_the_cpu(network):
    images, labels = sample(2000)
    data, network = (images.double(), labels), copy.deepcopy(network).double()
    on_cpu, on_gpu = code_space(network, data), code_space(network.cuda(), data)
    assert_same(on_gpu, on_cpu)
    for name in ("first", "second", "distance"):
        pairs = [getattr(pairs_within(space.codes, 3), name) for space in (on_cpu, on_gpu)]
        assert np.array_equal(*pairs)
