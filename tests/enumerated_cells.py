"""All cells of a perceptron by signs and linear programmes: layer by layer, each neuron divides the cells so far."""

import numpy as np
from scipy.optimize import linprog

THIN = 1e-9  # inradius of a cell that counts as empty


def enumerated_cells(weights):
    """The codes of the cells with interior, as strings, for weights (weight, bias), ..., whose last pair is the output.

    A cell is a code so far, its half-spaces (normals of length 1), a point inside, and the affine map of its layer.
    """
    features = weights[0][0].shape[1]
    cells = [("", np.empty((0, features)), np.empty(0), np.zeros(features), np.eye(features), np.zeros(features))]
    for weight, bias in weights[:-1]:
        divided = []
        for code, normals, offsets, point, map_weight, map_bias in cells:
            own, own_bias = weight @ map_weight, weight @ map_bias + bias
            parts = [("", normals, offsets, point)]
            for row, offset in zip(own, own_bias, strict=True):
                parts = [part for old in parts for part in _divided(*old, row, offset)]
            for bits, *half_spaces in parts:
                on = np.array([bit == "1" for bit in bits])
                divided.append((code + bits, *half_spaces, own * on[:, None], own_bias * on))
        cells = divided
    return {code for code, *_ in cells}


def _divided(bits, normals, offsets, point, row, offset):
    """The one or two parts of a cell on the sides of ``row @ x + offset = 0``."""
    size = np.linalg.norm(row)
    if size < 1e-12:
        return [(bits + "01"[int(offset > 0)], normals, offsets, point)]
    value, parts = (row @ point + offset) / size, []
    for sign in (-1, 1):
        new_normals, new_offsets = np.vstack([normals, sign * row / size]), np.append(offsets, sign * offset / size)
        inside = point
        if sign * value <= 1e-3:  # the point does not tell
            inside, radius = _centre(new_normals, new_offsets)
            if radius <= THIN:
                continue
        parts.append((bits + "01"[sign > 0], new_normals, new_offsets, inside))
    return parts


def _centre(normals, offsets):
    """The centre and the radius, at most 1, of a largest ball inside."""
    rows = np.hstack([-normals, np.ones((len(normals), 1))])
    bounds = [(None, None)] * normals.shape[1] + [(0, 1)]
    solution = linprog(-np.eye(rows.shape[1])[-1], A_ub=rows, b_ub=offsets, bounds=bounds)
    return (solution.x[:-1], solution.x[-1]) if solution.status == 0 else (None, 0.0)
