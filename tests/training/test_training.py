"""Training: the oracles are the update rules written out in numpy, and counts by hand."""

import copy
import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from nas_relucode.errors import InputError, NonFiniteError
from nas_relucode.training.data import Split, load_data
from nas_relucode.training.loop import Epoch, Recipe, accuracy, evaluate, pick_device, train
from nas_relucode.training.networks import build_autoencoder, build_network


def samples(count: int = 10, features: int = 3, classes: int = 2) -> Split:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(count, features, generator=generator, dtype=torch.float64)
    return Split(inputs, torch.randint(classes, (count,), generator=generator))


def linear(features: int = 3, classes: int = 2) -> nn.Linear:
    layer = nn.Linear(features, classes).double()
    with torch.no_grad():
        layer.weight.copy_(torch.linspace(-1, 1, features * classes).view(classes, features))
        layer.bias.copy_(torch.linspace(0, 1, classes))
    return layer


def cross_entropy(parameters: np.ndarray, data: Split) -> tuple[float, np.ndarray]:
    """The mean loss of softmax(weight @ x + bias) and its gradient by weight | bias, (classes, features + 1)."""
    inputs = np.hstack([data.inputs.numpy(), np.ones((len(data), 1))])
    exponentials = np.exp(inputs @ parameters.T)
    softmax = exponentials / exponentials.sum(axis=1, keepdims=True)
    truth = np.eye(len(parameters))[data.labels.numpy()]
    return -np.log((softmax * truth).sum(axis=1)).mean(), (softmax - truth).T @ inputs / len(data)


def parameters(layer: nn.Linear) -> np.ndarray:
    return np.hstack([layer.weight.detach().numpy(), layer.bias.detach().numpy()[:, None]])


class Witness(nn.Module):
    """A linear classifier that writes down which samples it was shown: the first feature is the sample's number."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.shown: list[list[int]] = []

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        self.shown.append([round(number) for number in inputs[:, 0].tolist()])
        return self.layer(inputs)


def witnessed(seed: int, epochs: int = 2) -> list[list[int]]:
    network = Witness()
    data = Split(torch.stack([torch.arange(10.0), torch.ones(10)], dim=1), torch.arange(10) % 2)
    train(network, data, learning_rate=1e-3, recipe=Recipe(epochs=epochs, batch_size=4), seed=seed)
    return network.shown


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize(("momentum", "weight_decay"), [(0, 0), (0.9, 0), (0, 0.1), (0.5, 0.01)])
def test_the_steps_are_those_of_gradient_descent_written_out(momentum, weight_decay, schedule):
    data, network = samples(), linear()
    recipe = Recipe(epochs=4, batch_size=256, momentum=momentum, weight_decay=weight_decay, schedule=schedule)
    expected, velocity = parameters(network), 0.0
    path, losses = [parameters(network)], [math.nan]
    for step in range(4):
        rate = 0.5 if schedule == "constant" else 0.5 * (1 + math.cos(math.pi * step / 4)) / 2
        loss, gradient = cross_entropy(expected, data)
        velocity = momentum * velocity + gradient + weight_decay * expected
        expected = expected - rate * velocity
        path.append(expected)
        losses.append(loss)

    seen: list[np.ndarray] = []
    seen_epochs: list[Epoch] = []
    train(
        network,
        data,
        learning_rate=0.5,
        recipe=recipe,
        on_epoch=lambda epoch: (seen.append(parameters(network)), seen_epochs.append(epoch)),
    )
    np.testing.assert_allclose(seen, path, rtol=1e-12, atol=1e-12)
    assert [epoch.number for epoch in seen_epochs] == [0, 1, 2, 3, 4]
    np.testing.assert_allclose([epoch.loss for epoch in seen_epochs], losses, rtol=1e-6)


def test_the_cosine_schedule_runs_over_all_batches_of_all_epochs():
    one, network = samples(1), linear()
    data = Split(one.inputs.expand(10, -1), one.labels.expand(10))  # equal samples: every batch has the same gradient
    expected = parameters(network)
    for step in range(12):  # three batches an epoch
        expected = expected - 0.5 * (1 + math.cos(math.pi * step / 12)) / 2 * cross_entropy(expected, data)[1]
    train(network, data, learning_rate=0.5, recipe=Recipe(epochs=4, batch_size=4, schedule="cosine"))
    np.testing.assert_allclose(parameters(network), expected, rtol=1e-12)


def test_an_epoch_shows_each_sample_once_in_an_order_of_its_own():
    shown = witnessed(seed=0)
    assert [len(batch) for batch in shown] == [4, 4, 2] * 2
    first, second = list(itertools.chain(*shown[:3])), list(itertools.chain(*shown[3:]))
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second


def test_the_seed_decides_the_order_of_the_samples():
    torch.manual_seed(1)
    first = witnessed(seed=5)
    torch.manual_seed(2)
    assert witnessed(seed=5) == first != witnessed(seed=6)


def test_the_loss_of_a_short_last_batch_counts_by_its_samples():
    data, network = samples(9), linear()
    loss, _ = cross_entropy(parameters(network), data)
    seen_epochs: list[Epoch] = []
    train(network, data, learning_rate=1e-12, recipe=Recipe(epochs=1, batch_size=4), on_epoch=seen_epochs.append)
    assert seen_epochs[1].loss == pytest.approx(loss, rel=1e-6)  # the mean of three batch means would be another number


def trained_on_digits(seed: int = 0, **arguments) -> dict[str, torch.Tensor]:
    network = build_network("16", (1, 8, 8), 10, backbone="small_conv")
    recipe = Recipe(epochs=2, batch_size=64, momentum=0.9)
    train(network, load_data("digits").train, learning_rate=0.03, recipe=recipe, seed=seed, **arguments)
    return network.state_dict()


def test_the_same_seed_gives_the_same_weights_byte_for_byte():
    first, again, other = trained_on_digits(), trained_on_digits(), trained_on_digits(seed=1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)


def test_a_callback_that_draws_random_numbers_changes_nothing():
    def disturb(epoch: Epoch) -> None:
        torch.manual_seed(epoch.number)
        torch.rand(3)

    plain, disturbed = trained_on_digits(), trained_on_digits(on_epoch=disturb)
    assert all(torch.equal(plain[name], disturbed[name]) for name in plain)


def test_training_does_not_change_the_random_state():
    network, before = linear(), torch.random.get_rng_state()
    train(network, samples(), learning_rate=0.1, recipe=Recipe(epochs=2, batch_size=4))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_no_epochs_leave_the_network_unchanged():
    network, seen_epochs = linear(), []
    before = parameters(network)
    train(network, samples(), learning_rate=0.1, recipe=Recipe(epochs=0), on_epoch=seen_epochs.append)
    assert np.array_equal(parameters(network), before)
    assert [epoch.number for epoch in seen_epochs] == [0]
    assert math.isnan(seen_epochs[0].loss)


@pytest.mark.parametrize("epochs", [1, 5])
def test_a_diverging_training_names_its_learning_rate_and_epoch(epochs):
    data = samples()
    seen_epochs: list[Epoch] = []
    with pytest.raises(NonFiniteError, match=r"in epoch 1 \(.*learning rate 1e\+30"):
        train(
            linear().float(),
            Split(data.inputs.float() * 1e12, data.labels),
            learning_rate=1e30,
            recipe=Recipe(epochs=epochs, batch_size=10),
            on_epoch=seen_epochs.append,
        )
    assert [epoch.number for epoch in seen_epochs] == [0]


def test_inputs_that_are_not_finite_stop_the_training():
    data = samples()
    data.inputs[3, 0] = math.nan
    with pytest.raises(NonFiniteError, match=r"epoch 1 \(loss nan"):
        train(linear(), data, learning_rate=0.1, recipe=Recipe(epochs=2))


@pytest.mark.parametrize("rate", [0, -0.1, math.nan, math.inf])
def test_a_learning_rate_that_is_not_positive_is_explained(rate):
    with pytest.raises(InputError, match=rf"learning rate {rate} is .*Give a number above 0"):
        train(linear(), samples(), learning_rate=rate, recipe=Recipe())


@pytest.mark.parametrize("data", [Split(torch.zeros(2, 3), None), Split(torch.zeros(0, 3), torch.zeros(0).long())])
def test_training_without_labelled_samples_is_refused(data):
    with pytest.raises(InputError, match="no labelled samples to train on"):
        train(linear(), data, learning_rate=0.1, recipe=Recipe())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": 1.5}, "epochs 1.5 .*whole number"),
        ({"batch_size": True}, "batch_size True .*whole number"),
        ({"epochs": -1}, "epochs -1 .*at least 0"),
        ({"batch_size": 0}, "batch_size 0 .*at least 1"),
        ({"momentum": 1}, "momentum 1 .*below 1"),
        ({"momentum": -0.1}, "momentum -0.1"),
        ({"momentum": math.nan}, "momentum nan"),
        ({"weight_decay": -1e-4}, "weight_decay -0.0001 .*at least 0"),
        ({"weight_decay": math.inf}, "weight_decay inf"),
        ({"schedule": "step"}, "unknown schedule 'step'. Known: constant, cosine"),
        ({"compile": "fast"}, "compile 'fast' is unknown. Give true, false or 'reduce-overhead'"),
        ({"loss": "l1"}, "unknown loss 'l1'. Known: cross_entropy, sigmoid, mse"),
    ],
)
def test_recipe_values_out_of_range_are_explained(values, message):
    with pytest.raises(InputError, match=message):
        Recipe(**values)


def test_the_default_recipe_is_the_papers():
    recipe = Recipe()
    assert (recipe.batch_size, recipe.momentum, recipe.weight_decay, recipe.schedule) == (256, 0, 0, "constant")


def test_a_small_network_learns_the_digits():
    data = load_data("digits")
    network = build_network("32-32", data.image_shape, 10, backbone="small_conv")
    assert accuracy(network, data.test) < 0.4
    train(network, data.train, learning_rate=0.05, recipe=Recipe(epochs=8, batch_size=32, momentum=0.9))
    assert accuracy(network, data.test) > 0.9


def test_mixed_precision_keeps_the_weights_in_float32():
    data = load_data("digits")
    losses: dict[bool, float] = {}
    for mixed in (False, True):
        network = build_network("32", data.image_shape, 10, backbone="small_conv")
        seen_epochs: list[Epoch] = []
        recipe = Recipe(epochs=2, batch_size=64, momentum=0.9, mixed_precision=mixed)
        train(network, data.train, learning_rate=0.03, recipe=recipe, on_epoch=seen_epochs.append)
        losses[mixed] = seen_epochs[-1].loss
        assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    assert losses[True] != losses[False]
    assert losses[True] == pytest.approx(losses[False], rel=0.05)  # bfloat16 keeps 8 bits


@pytest.mark.slow
@pytest.mark.parametrize("mode", [True, "reduce-overhead"])
def test_a_compiled_network_trains_alike(mode):
    data = load_data("digits", train_samples=256)
    losses = []
    for compiled in (False, mode):
        network = build_network("16", data.image_shape, 10, backbone="none")
        seen_epochs: list[Epoch] = []
        recipe = Recipe(epochs=2, batch_size=128, compile=compiled)
        train(network, data.train, learning_rate=0.03, recipe=recipe, on_epoch=seen_epochs.append)
        losses.append(seen_epochs[-1].loss)
        assert list(network.state_dict()) == ["head.0.weight", "head.0.bias", "head.2.weight", "head.2.bias"]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("mode", [False, "reduce-overhead"])
def test_the_gpu_trains_like_the_cpu(mixed, channels_last, mode):
    data = load_data("digits")
    losses = []
    for device in ("cpu", "cuda"):
        network = build_network("32", data.image_shape, 10, backbone="small_conv").to(device)
        seen_epochs: list[Epoch] = []
        recipe = Recipe(epochs=2, batch_size=64, momentum=0.9, mixed_precision=mixed, channels_last=channels_last)
        recipe = dataclasses.replace(recipe, compile=device == "cuda" and mode)
        train(network, data.to(device).train, learning_rate=0.03, recipe=recipe, on_epoch=seen_epochs.append)
        losses.append(seen_epochs[-1].loss)
        assert {(p.device.type, p.dtype) for p in network.parameters()} == {(device, torch.float32)}
    assert losses[1] == pytest.approx(losses[0], rel=0.05 if mixed else 0.01)
    assert pick_device().type == "cuda"


# reconstruction


def squared_error(parameters: np.ndarray, inputs: np.ndarray) -> tuple[float, np.ndarray]:
    """The mean of (weight @ x + bias - x)^2 and its gradient."""
    extended = np.hstack([inputs, np.ones((len(inputs), 1))])
    error = extended @ parameters.T - inputs
    return (error**2).mean(), 2 * error.T @ extended / error.size


def sigmoid_error(parameters: np.ndarray, inputs: np.ndarray) -> tuple[float, np.ndarray]:
    """The mean of -x log s - (1 - x) log(1 - s), s the sigmoid of weight @ x + bias, and its gradient."""
    extended = np.hstack([inputs, np.ones((len(inputs), 1))])
    sigmoid = 1 / (1 + np.exp(-extended @ parameters.T))
    loss = -(inputs * np.log(sigmoid) + (1 - inputs) * np.log(1 - sigmoid)).mean()
    return loss, (sigmoid - inputs).T @ extended / sigmoid.size


@pytest.mark.parametrize(("loss", "written_out"), [("mse", squared_error), ("sigmoid", sigmoid_error)])
def test_reconstructions_are_trained_by_the_loss_written_out(loss, written_out):
    data, network = Split(samples().inputs.sigmoid(), None), linear(3, 3)
    expected, losses = parameters(network), [math.nan]
    for _ in range(3):
        value, gradient = written_out(expected, data.inputs.numpy())
        expected = expected - 0.5 * gradient
        losses.append(value)
    seen_epochs: list[Epoch] = []
    train(network, data, learning_rate=0.5, recipe=Recipe(epochs=3, loss=loss), on_epoch=seen_epochs.append)
    np.testing.assert_allclose(parameters(network), expected, rtol=1e-12)
    np.testing.assert_allclose([epoch.loss for epoch in seen_epochs], losses, rtol=1e-12)
    evaluation = evaluate(network, data, loss=loss, batch_size=4)
    assert evaluation.loss == pytest.approx(written_out(expected, data.inputs.numpy())[0], rel=1e-12)
    assert evaluation.accuracy is None


def test_labels_do_not_matter_to_a_reconstruction():
    inputs, weights = samples().inputs.sigmoid(), []
    for labels in (None, torch.arange(10) % 2):
        network = linear(3, 3)
        recipe = Recipe(epochs=2, batch_size=4, loss="sigmoid")
        train(network, Split(inputs, labels), learning_rate=0.5, recipe=recipe)
        weights.append(parameters(network))
    assert np.array_equal(*weights)


def test_the_autoencoder_learns_to_reconstruct_digits():
    data = load_data("digits")
    network = build_autoencoder(data.image_shape, head="16-8")
    recipe = Recipe(epochs=3, batch_size=64, loss="mse", momentum=0.9)
    before = evaluate(network, data.test, loss="mse").loss
    train(network, data.train, learning_rate=0.5, recipe=recipe)
    assert evaluate(network, data.test, loss="mse").loss < before / 2


def test_images_out_of_range_of_the_sigmoid_are_explained():
    data = Split(samples().inputs, None)
    with pytest.raises(InputError, match=r"loss sigmoid needs images from 0 to 1, but these lie in -.* mse"):
        train(linear(3, 3), data, learning_rate=0.1, recipe=Recipe(loss="sigmoid"))


def test_a_network_whose_outputs_have_another_shape_than_its_inputs_is_refused():
    with pytest.raises(InputError, match=r"outputs of shape \(10, 2\) and inputs of shape \(10, 3\)"):
        train(linear(), samples(), learning_rate=0.1, recipe=Recipe(loss="mse"))
    with pytest.raises(InputError, match="there are no samples to train on"):
        train(linear(3, 3), Split(torch.zeros(0, 3), None), learning_rate=0.1, recipe=Recipe(loss="mse"))


# batches


@pytest.mark.parametrize("gathered", [1, 20, 2**22])
def test_on_batch_receives_the_rows_of_a_batch_before_its_step(monkeypatch, gathered):
    monkeypatch.setattr("nas_relucode.training.loop.GATHERED_NUMBERS", gathered)  # batches gathered at once
    data, network, seen_epochs, weights = samples(), linear(), [], []
    expected, rows_of = parameters(network), []
    generator = torch.Generator().manual_seed(7)
    path = []
    for _ in range(2):
        for rows in torch.randperm(10, generator=generator).split(4):
            path.append(expected)
            rows_of.append(rows.tolist())
            expected = expected - 0.5 * cross_entropy(expected, Split(data.inputs[rows], data.labels[rows]))[1]

    def look(rows: torch.Tensor) -> None:
        seen_epochs.append(rows.tolist())
        weights.append(parameters(network))

    train(network, data, learning_rate=0.5, recipe=Recipe(epochs=2, batch_size=4), seed=7, on_batch=look)
    assert seen_epochs == rows_of
    np.testing.assert_allclose(weights, path, rtol=1e-12)
    np.testing.assert_allclose(parameters(network), expected, rtol=1e-12)


# resuming


@pytest.mark.parametrize("stop", [0, 1, 3, 4])
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize("network_name", ["batch norm", "small_conv"])
def test_a_resumed_run_ends_with_the_same_bits(network_name, schedule, stop):
    data = load_data("digits", train_samples=100).train

    def build() -> nn.Module:
        if network_name == "small_conv":
            return build_network("8", (1, 8, 8), 10, backbone="small_conv")
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(72, 10))

    def run(network: nn.Module, **arguments) -> list[tuple[int, float]]:
        seen_epochs: list[Epoch] = []
        recipe = Recipe(epochs=4, batch_size=32, momentum=0.9, weight_decay=1e-3, schedule=schedule)

        def on_epoch(epoch: Epoch) -> None:
            seen_epochs.append(epoch)
            if epoch.number == stop:
                states.append(epoch.state())

        train(network, data, learning_rate=0.05, recipe=recipe, on_epoch=on_epoch, **arguments)
        return [(epoch.number, epoch.loss) for epoch in seen_epochs]

    states: list[dict] = []
    whole = build()
    seen_epochs = run(whole)
    kept = copy.deepcopy(states[0])
    resumed = build()
    assert run(resumed, resume=states[0]) == seen_epochs[stop + 1 :]
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert repr(kept) == repr(states[0])  # resuming leaves the state unchanged


def test_a_state_is_resumed_in_another_memory_layout():
    data = load_data("digits", train_samples=100).train
    states: list[dict] = []
    networks = [build_network("8", (1, 8, 8), 10, backbone="small_conv") for _ in range(2)]
    for network, channels_last in zip(networks, (True, False), strict=True):
        recipe = Recipe(epochs=4, batch_size=32, momentum=0.9, channels_last=channels_last)
        keep = lambda epoch: states.append(epoch.state())  # noqa: E731
        resume = states[2] if states else None
        train(network, data, learning_rate=0.05, recipe=recipe, on_epoch=keep, resume=resume)
    for name, value in networks[0].state_dict().items():
        torch.testing.assert_close(networks[1].state_dict()[name], value, rtol=1e-4, atol=1e-5)


def test_a_state_holds_plain_values_and_tensors_of_its_own():
    states: list[dict] = []
    network = linear()
    recipe = Recipe(epochs=2, momentum=0.9)
    train(network, samples(), learning_rate=0.1, recipe=recipe, on_epoch=lambda epoch: states.append(epoch.state()))

    def check(value: object) -> None:
        if isinstance(value, dict | list):
            for item in value.values() if isinstance(value, dict) else value:
                check(item)
        else:
            assert value is None or type(value) in (bool, int, float, str, torch.Tensor), type(value)

    check(states)
    assert [state["epoch"] for state in states] == [0, 1, 2]
    assert not torch.equal(states[1]["network"]["weight"], states[2]["network"]["weight"])


def test_epochs_may_be_increased_unless_the_schedule_is_cosine():
    states: list[dict] = []
    long, short = linear(), linear()
    train(long, samples(), learning_rate=0.1, recipe=Recipe(epochs=5, batch_size=4))
    recipe = Recipe(epochs=2, batch_size=4)
    train(short, samples(), learning_rate=0.1, recipe=recipe, on_epoch=lambda epoch: states.append(epoch.state()))
    resumed = linear()
    train(resumed, samples(), learning_rate=0.1, recipe=Recipe(epochs=5, batch_size=4), resume=states[-1])
    assert np.array_equal(parameters(resumed), parameters(long))


def test_a_state_is_read_while_it_is_that_of_the_network():
    seen_epochs: list[Epoch] = []
    train(linear(), samples(), learning_rate=0.1, recipe=Recipe(epochs=2), on_epoch=seen_epochs.append)
    with pytest.raises(InputError, match=r"epoch 1 is over\. Call its state\(\) within on_epoch"):
        seen_epochs[1].state()
    assert seen_epochs[2].state()["epoch"] == 2
    with pytest.raises(InputError, match="this epoch belongs to no training"):
        Epoch(1, 0.5).state()


def test_a_state_of_other_settings_is_refused_and_nothing_is_changed():
    states: list[dict] = []
    recipe = Recipe(epochs=2, batch_size=4)
    train(linear(), samples(), learning_rate=0.1, recipe=recipe, on_epoch=lambda epoch: states.append(epoch.state()))
    state = states[-1]

    def refused(message, network=None, data=None, resume=state, rate=0.1, seed=1234, **changed):
        network = network or linear()
        before = parameters(network)
        with pytest.raises(InputError, match=message):
            train(
                network,
                data or samples(),
                learning_rate=rate,
                recipe=Recipe(**({"epochs": 2, "batch_size": 4} | changed)),
                seed=seed,
                resume=resume,
            )
        assert np.array_equal(parameters(network), before)

    refused(r"made with learning_rate 0\.1, not 0\.2", rate=0.2)
    refused(r"made with seed 1234, not 1", seed=1)
    refused(r"made with samples 10, not 9", data=samples(9))
    refused(r"made with batch_size 4, not 5; momentum 0\.0, not 0\.9", batch_size=5, momentum=0.9)
    refused(r"made with epochs None, not 2; schedule 'constant', not 'cosine'", schedule="cosine")
    refused(r"state is that of epoch 2, but the training has 1 epochs", epochs=1)
    refused(r"has no order\. Give that of Epoch\.state\(\)", resume={k: v for k, v in state.items() if k != "order"})
    refused(r"of another network \(weight, bias differ\)", network=linear(3, 4))
    momenta = {"optimizer": {"state": {2: {"momentum_buffer": torch.zeros(2)}}}}
    refused(r"of another network \(momentum 2 differ\)", resume=state | momenta)


# accuracy and devices


def test_an_evaluation_is_loss_and_accuracy_written_out():
    data, network = samples(9), linear()
    loss, _ = cross_entropy(parameters(network), data)
    for batch_size in (2, 9, 100):
        evaluation = evaluate(network, data, batch_size=batch_size)
        assert evaluation.loss == pytest.approx(loss, rel=1e-12)
        assert evaluation.accuracy == accuracy(network, data)


def test_an_evaluation_leaves_the_network_unchanged():
    network = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(), nn.Linear(3, 2))
    network[1].eval()
    before = copy.deepcopy(network.state_dict())
    state = torch.random.get_rng_state()
    data = samples()
    evaluate(network, Split(data.inputs.float() + 5, data.labels))
    assert [module.training for module in network.modules()] == [True, True, False, True]
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_data_without_labels_or_samples_and_unknown_losses():
    nothing = evaluate(linear(), Split(torch.zeros(0, 3), torch.zeros(0).long()))
    assert math.isnan(nothing.loss)
    assert math.isnan(nothing.accuracy)
    with pytest.raises(InputError, match="no labels to evaluate by"):
        evaluate(linear(), Split(torch.zeros(2, 3), None))
    with pytest.raises(InputError, match="unknown loss 'l1'"):
        evaluate(linear(), samples(), loss="l1")


@pytest.mark.parametrize("batch_size", [1, 3, 512])
def test_accuracy_is_a_count_by_hand(batch_size):
    network = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        network.weight.copy_(torch.eye(2))  # the class is the larger coordinate
    inputs = torch.tensor([[3.0, 1.0], [1.0, 2.0], [0.0, 5.0], [4.0, 0.0], [2.0, 7.0]])
    data = Split(inputs, torch.tensor([0, 1, 0, 0, 0]))  # right, right, wrong, right, wrong
    assert accuracy(network, data, batch_size=batch_size) == 3 / 5


def test_accuracy_is_taken_in_evaluation_mode():
    network = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.9)).double()
    data = samples(500)
    right = functional.one_hot(network[0](data.inputs).argmax(dim=1), 2).argmax(dim=1) == data.labels
    assert accuracy(network, data) == right.sum().item() / 500


def test_accuracy_of_nothing_is_nan():
    assert math.isnan(accuracy(linear(), Split(torch.zeros(0, 3), torch.zeros(0).long())))
    assert math.isnan(accuracy(linear(), Split(torch.zeros(2, 3), None)))


def test_the_best_device_is_picked():
    best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert pick_device().type == pick_device(None).type == best
    assert pick_device("cpu") == torch.device("cpu")


WITHOUT_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")


@pytest.mark.parametrize(
    "device", ["", "gpu", "cuda:99", "xpu", "hpu", "meta", pytest.param("cuda", marks=WITHOUT_GPU)]
)
def test_a_device_that_cannot_be_used_is_explained(device):
    with pytest.raises(InputError, match=rf"device '{device}' cannot be used \(.+\). Give cpu, cuda, cuda:1 or mps"):
        pick_device(device)
