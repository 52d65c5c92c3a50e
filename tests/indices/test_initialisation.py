"""Scores at initialisation against exact determinants, Python's sets and their formulas."""

import math
from fractions import Fraction

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_relucode import InputError
from nas_relucode.codes import pack
from nas_relucode.codes.bits import Codes, Layer
from nas_relucode.indices.batch_scores import distinct_codes, distinct_patterns, logdet_kernel, regularised_patterns

WIDTHS = st.sampled_from([1, 2, 5, 63, 64, 65, 200])
BITS = arrays.arrays(bool, st.tuples(st.integers(1, 9), WIDTHS))


def determinant(matrix):
    """By elimination on fractions, exactly."""
    rows, result = [[Fraction(int(value)) for value in row] for row in matrix], Fraction(1)
    for i in range(len(rows)):
        pivot = next((j for j in range(i, len(rows)) if rows[j][i]), None)
        if pivot is None:
            return Fraction(0)
        if pivot != i:
            rows[i], rows[pivot], result = rows[pivot], rows[i], -result
        result *= rows[i][i]
        for j in range(i + 1, len(rows)):
            factor = rows[j][i] / rows[i][i]
            rows[j] = [a - factor * b for a, b in zip(rows[j], rows[i], strict=True)]
    return result


@given(BITS)
def test_the_logdet_is_that_of_the_exact_determinant(bits):
    agree = [[int((a == b).sum()) for b in bits] for a in bits]
    exact = determinant(agree)
    expected = math.log(exact) if exact else math.nan
    value = logdet_kernel(pack(bits))
    assert value == pytest.approx(expected, abs=1e-7, nan_ok=True)
    assert math.isnan(value) or -1e-7 <= value <= len(bits) * math.log(bits.shape[1]) + 1e-7


def test_the_logdet_of_two_samples_at_the_largest_distance_is_its_bound():
    assert logdet_kernel(pack([[1] * 10, [0] * 10])) == pytest.approx(2 * math.log(10))


def test_codes_that_depend_on_one_another_have_no_logdet_although_they_are_distinct():
    """code(00) + code(11) = code(01) + code(10), each beside its complement."""
    assert math.isnan(logdet_kernel(pack([[0, 0], [0, 1], [1, 0], [1, 1]])))
    assert math.isnan(logdet_kernel(pack(np.random.default_rng(0).random((128, 126)) < 0.5)))  # neurons + 2 samples


@given(BITS)
def test_patterns_and_codes_are_the_distinct_columns_and_rows(bits):
    assert distinct_patterns(pack(bits)) == len(set(map(tuple, bits.T)))
    assert distinct_codes(pack(bits)) == len(set(map(tuple, bits)))


@pytest.mark.parametrize("samples", [1, 16, 63, 64, 65, 200])
def test_patterns_of_many_samples_and_several_layers_leave_the_filling_bits_out(samples):
    """Every neuron is on for the first sample: a column of zeros could only come from the bits that fill a word."""
    rng = np.random.default_rng(samples)
    bits = rng.random((samples, 100)) < 0.3
    bits[0] = True
    bits[:, 50:] = bits[:, :50]
    first, second = pack(bits[:, :30]), pack(bits[:, 30:])
    layers = (Layer("a", (30,), 0), Layer("b", (7, 10), 1))
    codes = Codes(np.hstack([first.words, second.words]), layers)
    assert distinct_patterns(codes) == len(set(map(tuple, bits.T)))


def test_the_regularised_patterns_are_weighed_by_the_size_of_the_network():
    codes = pack(np.eye(4))
    assert regularised_patterns(codes, 1_234_000, mu=1234, sigma=1) == 4
    assert regularised_patterns(codes, 30_000, mu=40, sigma=50) == pytest.approx(4 * math.exp(-100 / 50))
    assert regularised_patterns(codes, 50_000, mu=40, sigma=50) == pytest.approx(4 * math.exp(-100 / 50))
    assert regularised_patterns(codes, 1_000_000, mu=40, sigma=40) == 0


@pytest.mark.parametrize(("mu", "sigma"), [(1, 0), (1, -2), (math.nan, 1), (1, math.inf)])
def test_a_bell_without_a_middle_or_a_width_is_an_error(mu, sigma):
    with pytest.raises(InputError, match="mu must be finite and sigma positive"):
        regularised_patterns(pack(np.eye(2)), 1000, mu=mu, sigma=sigma)
    with pytest.raises(InputError, match="-1 parameters"):
        regularised_patterns(pack(np.eye(2)), -1, mu=1, sigma=1)


@pytest.mark.parametrize("score", [logdet_kernel, distinct_patterns, distinct_codes])
@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_no_codes_have_no_score(score, shape):
    with pytest.raises(InputError, match=f"{shape[0]} codes of {shape[1]} neurons"):
        score(pack(np.empty(shape)))
