"""Each operation against autograd: behind a convolution and a ReLU, at points of several cells."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from linear_pieces import Function, check_last_layer, odd_statistics
from torch import nn

from nas_relucode import InputError
from nas_relucode.geometry.program import read_program

STEM = lambda: nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU())  # noqa: E731
CONSTANT = torch.randn(4, 1, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

MAPS = {
    "convolution": lambda: nn.Conv2d(4, 3, 3),
    "strides and padding": lambda: nn.Conv2d(4, 3, (3, 2), stride=(2, 1), padding=(2, 0)),
    "groups": lambda: nn.Conv2d(4, 8, 3, groups=2, bias=False),
    "depthwise": lambda: nn.Conv2d(4, 4, 3, groups=4, padding="same"),
    "dilation": lambda: nn.Conv2d(4, 3, 2, dilation=3),
    "reflection": lambda: nn.Conv2d(4, 3, 3, padding=1, padding_mode="reflect"),
    "replication": lambda: nn.Conv2d(4, 3, 3, padding=1, padding_mode="replicate"),
    "transposed": lambda: nn.ConvTranspose2d(4, 2, 3, stride=2, padding=1, output_padding=1, groups=2),
    "convolution of one dimension": lambda: nn.Sequential(nn.Flatten(2), nn.Conv1d(4, 3, 5, stride=2)),
    "convolution of three": lambda: nn.Sequential(nn.Unflatten(1, (1, 4)), nn.Conv3d(1, 2, 3)),
    "average pooling": lambda: nn.AvgPool2d(3, stride=2, padding=1),
    "average pooling without the padding": lambda: nn.AvgPool2d(2, padding=1, count_include_pad=False, ceil_mode=True),
    "average pooling of one dimension": lambda: nn.Sequential(nn.Flatten(2), nn.AvgPool1d(4, 3)),
    "adaptive average pooling": lambda: nn.AdaptiveAvgPool2d((4, 5)),
    "global average pooling": lambda: nn.AdaptiveAvgPool2d(1),
    "BatchNorm": lambda: nn.BatchNorm2d(4),
    "BatchNorm without scale": lambda: nn.BatchNorm2d(4, affine=False, eps=0.1),
    "BatchNorm of vectors": lambda: nn.Sequential(nn.Flatten(), nn.BatchNorm1d(144)),
    "BatchNorm of sequences": lambda: nn.Sequential(nn.Flatten(2), nn.BatchNorm1d(4)),
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(144, 5)),
    "linear without bias": lambda: nn.Sequential(nn.Flatten(), nn.Linear(144, 5, bias=False)),
    "linear of rows": lambda: nn.Linear(6, 5),
    "linear of rows without bias": lambda: nn.Sequential(nn.Linear(6, 5, bias=False), nn.Linear(5, 2)),
    "dropout": lambda: nn.Sequential(nn.Dropout(0.9), nn.Dropout2d(0.9), nn.Identity()),
    "pixel shuffle": lambda: nn.PixelShuffle(2),
    "channel shuffle": lambda: nn.ChannelShuffle(2),
    "nearest": lambda: nn.Upsample(scale_factor=2),
    "bilinear": lambda: nn.Upsample(size=(8, 9), mode="bilinear"),
    "zero padding": lambda: nn.ZeroPad2d((1, 0, 2, 1)),
}

FUNCTIONS = {
    "view": lambda x: x.view(len(x), 12, 12),
    "view of unknown size": lambda x: x.view(x.size(0), -1),
    "squeeze": lambda x: x[:, :1].squeeze(1).unsqueeze(-1),
    "permute": lambda x: x.permute(0, 2, 3, 1).contiguous().flatten(1),
    "transpose": lambda x: x.transpose(1, -1).reshape(len(x), -1) + 1,
    "movedim": lambda x: x.movedim(1, 3),
    "expand": lambda x: x[:, :1].expand(-1, 3, -1, -1),
    "repeat": lambda x: x.repeat(1, 2, 1, 1),
    "a residual sum": lambda x: x + 2 * x.flip(1),
    "a residual sum in place": lambda x: torch.neg(x).__iadd__(x.flip(2)),
    "a difference": lambda x: x - x.flip(1),
    "a difference with alpha": lambda x: torch.sub(x, x.flip(1), alpha=0.3),
    "a difference in place": lambda x: (x * 1).sub_(x.flip(1), alpha=0.3),
    "a sum that is broadcast": lambda x: x + x.mean((2, 3), keepdim=True),
    "constants added": lambda x: x + 1 + CONSTANT,
    "a constant added that is larger": lambda x: x[:, :1] + CONSTANT,
    "alpha times a constant": lambda x: torch.add(x, CONSTANT, alpha=2),
    "from a number": lambda x: 1 - x,
    "alpha times from a number": lambda x: torch.rsub(x, 1, alpha=3),
    "from a constant": lambda x: CONSTANT - x,
    "alpha times from a constant": lambda x: torch.sub(CONSTANT, x, alpha=0.7),
    "constants for each sample": lambda x: x + CONSTANT[None].expand(len(x), -1, 6, -1),
    "zeros of its size": lambda x: torch.zeros_like(x) + 2 * x,
    "scaled": lambda x: x * 2 / 3,
    "scaled in place": lambda x: (x + 0).mul_(CONSTANT).div_(4),
    "scaled by a constant": lambda x: CONSTANT * x / CONSTANT.abs(),
    "negative": lambda x: -x,
    "cat": lambda x: torch.cat([x, x.flip(1), x[:, :2]], 1),
    "cat with constants": lambda x: torch.cat([CONSTANT[None].expand(len(x), -1, 6, -1), x], 1),
    "stack": lambda x: torch.stack([x, -x], 2),
    "mean": lambda x: x.mean((-1, -2)),
    "mean over one dimension": lambda x: x.mean(2, keepdim=True),
    "sum": lambda x: x.sum(dim=[1, 3]),
    "padding with a value": lambda x: F.pad(x, (1, 2, 0, 1, 1, 0), value=0.7),
    "slices and numbers": lambda x: x[:, 1:, ::2, 3],
    "chunk": lambda x: torch.cat(x.chunk(2, 1)[::-1], 2),
    "split": lambda x: torch.cat([part.mean(1) for part in x.split([1, 3], 1)], 1),
    "unbind": lambda x: x.unbind(3)[4],
    "a matrix": lambda x: x @ CONSTANT[:, 0].T,
    "a matrix behind a transpose": lambda x: F.linear(x.mean(1).mT, CONSTANT[:, 0], CONSTANT[:, 0, 0]),
    "a matrix from the left": lambda x: CONSTANT[:, 0] @ x.mean(1),
    "one number per sample": lambda x: x.flatten(1).sum(1),
}


@pytest.mark.parametrize("name", MAPS)
def test_a_module_is_read_as_autograd_sees_it(name):
    torch.manual_seed(0)
    check_last_layer(odd_statistics(nn.Sequential(STEM(), MAPS[name]())), 2, 6, 6)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_is_read_as_autograd_sees_it(name):
    torch.manual_seed(0)
    check_last_layer(nn.Sequential(STEM(), Function(FUNCTIONS[name])), 2, 6, 6)


def test_what_autograd_does_not_see_through_is_read():
    torch.manual_seed(0)
    stem, point = STEM(), torch.randn(1, 2, 6, 6, dtype=torch.float64)
    hidden, plain = (
        read_program(nn.Sequential(stem, Function(function), nn.ReLU()), point)
        for function in (lambda x: x.detach() + x.data, lambda x: x + x)
    )
    for one, other in zip(hidden.run(point), plain.run(point), strict=True):
        assert torch.equal(one[1], other[1])


MIXED = {
    "the mean of the samples": lambda x: x - x.mean(0),
    "the sum of the samples": lambda x: x + x.sum((0, 2), keepdim=True),
    "samples in reverse": lambda x: x + x.flip(0),
    "samples taken off": lambda x: x - x[:1],
    "one sample": lambda x: x + x[0],
    "samples and channels swapped": lambda x: x.transpose(0, 1).flatten(1).expand(len(x), -1),
    "samples laid side by side": lambda x: x.reshape(1, -1).expand(len(x), -1),
    "two rows of a sample": lambda x: x.reshape(2 * len(x), -1),
    "a product of samples": lambda x: x.flatten(1) @ x.flatten(1).T,
    "samples in one list": lambda x: torch.cat([x, x], 0)[: len(x)],
    "samples stacked": lambda x: torch.stack([x, x]).sum(0),
    "samples split": lambda x: torch.cat(x.split(1)),
    "samples unbound": lambda x: torch.stack(x.unbind(0)),
    "a matrix for each sample": lambda x: torch.arange(5.0 * len(x)).double().reshape(-1, 1, 5) @ x.flatten(2),
    "numbers for each sample": lambda x: x + torch.linspace(0, 1, len(x)).reshape(-1, 1, 1, 1),
    "rows that are split again": lambda x: (
        ((x.reshape(-1, 4) @ CONSTANT[:, 0]).reshape(-1, 2) @ CONSTANT[:2, 0, :2]).mT.mT
    ),
    "a number of each sample for all": lambda x: x.flatten(1)[:, :5] + x.mean((1, 2, 3)),
    "a number of each sample in columns": lambda x: x.mean((1, 2, 3)) + torch.ones(5, 1),
    "a column of samples": lambda x: x.mean(dim=[]) + x,
    "samples permuted": lambda x: x.permute(1, 0, 2, 3).reshape(x.shape),
}


@pytest.mark.parametrize("name", MIXED)
def test_what_mixes_samples_is_refused_by_name(name):
    network = nn.Sequential(nn.Conv2d(2, 5, 3), Function(MIXED[name]), nn.ReLU())  # as many channels as are recorded
    with pytest.raises(InputError, match=r"^[12] \(\w+\) can't be read as piecewise linear"):
        read_program(network, torch.randn(1, 2, 6, 6))


NOT_LINEAR = {
    "a product": lambda x: x * x.flip(1),
    "a product in place": lambda x: (x + 1).mul_(x),
    "a quotient": lambda x: x / (1 + x.abs()),
    "a divisor": lambda x: 1 / (x + 9),
    "floor division": lambda x: torch.div(x, 2, rounding_mode="floor"),
    "an attention": lambda x: x @ x.mT,
    "float32": lambda x: x.float(),
    "float32 and back": lambda x: x.float().double(),
    "a sum in float32": lambda x: x.sum(1, dtype=torch.float32),
    "the largest of all samples": lambda x: x + x.amax((0, 2), keepdim=True),
    "torch.where": lambda x: torch.where(x > 0, x, 0),
    "a norm": F.normalize,
    "noise": lambda x: x + torch.randn_like(x),
    "noise of its own": lambda x: x + torch.randn(x.shape),
    "noise that drops": lambda x: F.dropout(x, 0.5, training=True),
    "weights that are computed": lambda x: F.conv2d(x, x.mean(0, keepdim=True)[:, :, :2, :2]),
    "sorted": lambda x: x.sort(1).values,
}


@pytest.mark.parametrize("name", NOT_LINEAR)
def test_what_is_not_linear_is_refused_by_name(name):
    network = nn.Sequential(nn.Conv2d(2, 4, 3), Function(NOT_LINEAR[name]), nn.ReLU())
    with pytest.raises(
        InputError, match=r"^1 \(\w+\) can't be read as piecewise linear, and bits of the code come behind"
    ):
        read_program(network, torch.randn(1, 2, 6, 6))
