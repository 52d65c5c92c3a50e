"""Code spaces of shards merge, one by one, into that of the whole sample."""

import itertools
import weakref

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nas_relucode import CodeSpace
from nas_relucode.cells import save_code_space
from nas_relucode.cells.code_spaces import merge_code_spaces
from nas_relucode.codes import pack


@st.composite
def cut_samples(draw):
    """Bits, labels and correctness of up to 30 samples, and where they are cut into shards."""
    samples = draw(st.integers(1, 30))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    cuts = draw(st.lists(st.integers(1, samples - 1), max_size=5, unique=True)) if samples > 1 else []
    bits = rng.integers(0, 2, (samples, draw(st.sampled_from([1, 3, 70]))))
    bits[:, 3:] = 0  # so that there are equal codes
    return bits, rng.integers(0, 4, samples), rng.integers(0, 2, samples).astype(bool), [0, *sorted(cuts), samples]


@given(cut_samples(), st.booleans(), st.booleans())
def test_shards_merge_to_the_bytes_of_the_whole(tmp_path_factory, cut, labelled, judged):
    bits, labels, correct, cuts = cut
    folder = tmp_path_factory.getbasetemp()

    def space(rows):
        return CodeSpace.of(pack(bits[rows]), labels[rows] if labelled else None, correct[rows] if judged else None)

    merged = merge_code_spaces(space(slice(a, b)) for a, b in itertools.pairwise(cuts))
    files = [save_code_space(each, folder / "space.npz").read_bytes() for each in (merged, space(slice(None)))]
    assert files[0] == files[1]


def test_at_most_two_shards_are_in_memory():
    references, most = [], 0

    def shards():
        nonlocal most
        for number in range(20):
            space = CodeSpace.of(pack(np.random.default_rng(number).integers(0, 2, (50, 8))))
            references.append(weakref.ref(space))
            most = max(most, sum(reference() is not None for reference in references))
            yield space
            del space

    assert merge_code_spaces(shards()).samples == 1000
    assert most <= 2
