"""Accuracy on changed images and of changed networks: by formula on linear networks, and against other tools."""

import copy
import math
import warnings

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.stats import norm
from torch import nn

from nas_relucode.errors import InputError, NonFiniteError
from nas_relucode.qualities import (
    QUALITIES,
    blur_accuracy,
    corruption_accuracy,
    corruptions,
    fgsm_accuracy,
    measure,
    noise_accuracy,
    outcomes,
    pgd_accuracy,
    pruned_accuracy,
    rotation_accuracy,
    rounded_accuracy,
    translation_accuracy,
)

FAR = (-100.0, 100.0)  # a pixel range that clips nothing here


class Seen(nn.Module):
    """Keeps the images that it is given; its scores are the same for every image."""

    def __init__(self):
        super().__init__()
        self.images = []

    def forward(self, images):
        self.images.append(images.clone())
        return torch.tensor([[1.0, 0.0]]).expand(len(images), 2)


def linear(weights, bias=0.0) -> nn.Sequential:
    """A network with one logit, which is linear in the pixels."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(len(weights), 1))
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor([weights]))
        network[1].bias.fill_(bias)
    return network


def small_network(channels=1, size=8, classes=3, seed=0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(4 * (size - 2) ** 2, classes)
    ).eval()


def images_of(network, samples=40, channels=1, size=8):
    """Random images, and the classes that the network gives most of them."""
    images = torch.rand(samples, channels, size, size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        labels = network(images).argmax(dim=1)
    labels[::7] = (labels[::7] + 1) % 3
    return images, labels


def seen_by(function, images, **settings):
    network = Seen()
    function(network, (images, torch.zeros(len(images), dtype=torch.int64)), **settings)
    return network.images


def test_accuracy_under_noise_is_the_normal_distribution_at_the_relative_margin():
    weights, point, sigmas = [3.0, -4.0], torch.tensor([[0.5, 0.2]]), (0.001, 0.005)
    margin = 3 * 0.5 - 4 * 0.2
    data = point.repeat(4000, 1), torch.ones(4000, dtype=torch.int64)
    measured = noise_accuracy(linear(weights), data, deviations=sigmas, pixel_range=FAR)
    expected = np.mean([norm.cdf(margin / (5 * 200 * sigma)) for sigma in sigmas])
    assert float(measured) == pytest.approx(expected, abs=0.02)
    assert set(measured.columns[0]) <= {0, 0.5, 1}


def test_noise_stays_in_the_pixel_range_and_is_the_same_for_the_same_seed():
    images = torch.rand(5, 1, 4, 4)
    (first,), (again,) = (seen_by(noise_accuracy, images, deviations=0.5) for _ in range(2))
    assert torch.equal(first, again)
    assert 0 <= first.min() < first.max() <= 1
    assert not torch.equal(first, seen_by(noise_accuracy, images, deviations=0.5, seed=1)[0])


@pytest.mark.parametrize("attack", [fgsm_accuracy, pgd_accuracy])
def test_an_attack_on_a_linear_network_succeeds_where_the_margin_is_below_the_sum_of_the_weights(attack):
    generator = torch.Generator().manual_seed(0)
    weights, images = torch.randn(6, generator=generator), torch.rand(50, 6, generator=generator)
    margins = images @ weights
    expected = np.mean([(margins.abs() > 200 * e * weights.abs().sum()).numpy() for e in (0.0005, 0.002)], axis=0)
    measured = attack(
        linear(weights.tolist()), (images, (margins > 0).long()), epsilons=(0.0005, 0.002), pixel_range=FAR
    )
    assert np.array_equal(measured.columns[0], expected)
    assert 0 < float(measured) < 1


def test_attacks_are_those_of_foolbox():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        foolbox = pytest.importorskip("foolbox", reason="foolbox comes with the extra named test")
    network = small_network()
    images, labels = images_of(network)
    right = (network(images).argmax(dim=1) == labels).numpy()
    model, steps = foolbox.PyTorchModel(network, bounds=(0, 1), device="cpu"), 5
    descent = foolbox.attacks.LinfPGD(rel_stepsize=0.3, steps=steps, random_start=False)
    ours = {
        foolbox.attacks.FGSM(): fgsm_accuracy(network, (images, labels), epsilons=0.05),
        descent: pgd_accuracy(network, (images, labels), epsilons=0.05, steps=steps, step_size=0.3, random_start=False),
    }
    for theirs, measured in ours.items():
        succeeded = theirs(model, images, labels, epsilons=0.05)[2].numpy()
        assert np.array_equal(measured.columns[0] == 1, right & ~succeeded)
        assert 0 < float(measured) < right.mean()


@pytest.mark.slow
def test_descent_comes_close_to_autoattacks_which_restarts_and_adapts_its_steps():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pyautoattack = pytest.importorskip("pyautoattack", reason="pyautoattack comes with the extra named test")
        network = small_network(classes=4)
        images, labels = images_of(network, samples=32)
        attack = pyautoattack.AutoAttack(network, eps=0.03, version="custom", attacks=["apgd-ce"], seed=0)
        attacked = attack.run_standard_evaluation(images, labels)[0]
    with torch.no_grad():
        strongest = float((network(attacked).argmax(dim=1) == labels).float().mean())
    measured = float(pgd_accuracy(network, (images, labels), epsilons=0.03, steps=40))
    assert strongest <= measured <= strongest + 0.1
    assert measured < float((network(images).argmax(dim=1) == labels).float().mean())


def test_a_saturated_network_is_still_attacked():
    """The probability of the right class is 1 in float32, and its gradient would vanish."""
    network, images = linear([25.0]), torch.ones(3, 1)
    assert float(pgd_accuracy(network, (images, torch.ones(3).long()), epsilons=0.4, pixel_range=(-1.5, 1.5))) == 0
    assert float(fgsm_accuracy(network, (images, torch.ones(3).long()), epsilons=0.4, pixel_range=(-1.5, 1.5))) == 0


def test_a_right_angle_turns_the_image_both_ways():
    images = torch.rand(3, 2, 5, 5)
    left, right = seen_by(rotation_accuracy, images, degrees=90)
    assert torch.allclose(left, images.rot90(1, (2, 3)), atol=1e-5)
    assert torch.allclose(right, images.rot90(-1, (2, 3)), atol=1e-5)


def test_a_moved_image_leaves_black_behind_it():
    images = torch.rand(2, 1, 4, 4) - 0.5
    left, right, up, down = seen_by(translation_accuracy, images, pixels=1, pixel_range=(-0.5, 0.5))
    black = -0.5 * torch.ones(2, 1, 4, 1)
    assert torch.allclose(left, torch.cat([images[..., 1:], black], dim=3))
    assert torch.allclose(right, torch.cat([black, images[..., :-1]], dim=3))
    assert torch.allclose(up, torch.cat([images[..., 1:, :], black.mT], dim=2))
    assert torch.allclose(down, torch.cat([black.mT, images[..., :-1, :]], dim=2))


def test_blur_is_scipys_gaussian_filter():
    images = torch.rand(2, 1, 12, 12)
    (blurred,) = seen_by(blur_accuracy, images, sigmas=1.5)
    expected = gaussian_filter(images.numpy(), 1.5, mode="mirror", radius=5, axes=(2, 3))
    assert np.allclose(blurred, expected, atol=1e-5)


def changed_weights(function, network, images, **settings) -> list[np.ndarray]:
    """The weights of the copy that the quality runs, and its accuracies, which are those of a network with them."""
    used = []

    def forward(network, batch):
        used.append([parameter.detach().clone().numpy() for parameter in network.parameters()])
        return network(batch[0])

    function(network, images, forward=forward, **settings)
    return used[0]


def test_the_smallest_weights_of_each_layer_are_pruned_and_no_bias():
    network = small_network()
    data = images_of(network)
    pruned = changed_weights(pruned_accuracy, network, data, shares=0.25)
    for before, after in zip(network.parameters(), pruned, strict=True):
        expected = before.detach().numpy().copy()
        if expected.ndim > 1:
            smallest = np.argsort(np.abs(expected), axis=None)[: round(0.25 * expected.size)]
            expected.flat[smallest] = 0
        assert np.array_equal(after, expected)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_weights_are_rounded_as_torchs_symmetric_quantisation_rounds_them(bits):
    network = small_network()
    rounded = changed_weights(rounded_accuracy, network, images_of(network), bits=bits)
    most = 2 ** (bits - 1) - 1
    for before, after in zip(network.parameters(), rounded, strict=True):
        if before.ndim == 1:
            assert np.array_equal(after, before.detach())
            continue
        step = float(before.detach().abs().max()) / most
        expected = torch.fake_quantize_per_tensor_affine(before.detach(), step, 0, -most, most)
        assert np.allclose(after, expected, atol=1e-6)


def test_compression_by_nothing_leaves_the_accuracy_and_the_network():
    network = small_network()
    data = images_of(network)
    accuracy = float((network(data[0]).argmax(dim=1) == data[1]).float().mean())
    state = copy.deepcopy(network.state_dict())
    assert float(pruned_accuracy(network, data, shares=0)) == pytest.approx(accuracy)
    assert float(rounded_accuracy(network, data, bits=24)) == pytest.approx(accuracy)
    assert float(pruned_accuracy(network, data, shares=0.95)) < accuracy
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize(
    "function", [noise_accuracy, fgsm_accuracy, pgd_accuracy, rotation_accuracy, translation_accuracy, blur_accuracy]
)
def test_normalised_images_with_their_pixel_range_give_the_outcomes_of_the_images(function):
    class Normalised(nn.Module):
        def __init__(self, network):
            super().__init__()
            self.network = network

        def forward(self, images):
            return self.network(images * deviation + mean)

    network = small_network(channels=2)
    images, labels = images_of(network, channels=2)
    mean, deviation = torch.tensor([0.5, 0.25]).view(2, 1, 1), torch.tensor([0.25, 0.5]).view(2, 1, 1)
    low, high = (((bound - mean) / deviation).flatten().tolist() for bound in (0, 1))
    normalised = (images - mean) / deviation, labels
    expected = function(network, (images, labels))
    measured = function(Normalised(network), normalised, pixel_range=(low, high))
    assert np.allclose(measured.columns[0], expected.columns[0])
    at_once = measure(Normalised(network), normalised, ["parameters", function.__name__], pixel_range=(low, high))
    assert at_once[function.__name__] == float(measured)
    with pytest.raises(InputError, match="pixel_range"):
        function(Normalised(network), normalised)


@pytest.mark.parametrize(
    "names", [["contrast", "shot_noise", "impulse_noise"], pytest.param(None, marks=pytest.mark.slow)]
)
def test_corruptions_are_the_librarys_and_the_same_for_every_network(names, monkeypatch):
    library = pytest.importorskip("imagecorruptions", reason="it comes with the extra named qualities")
    expected_names = names or library.get_corruption_names()
    pixels = torch.randint(0, 256, (2, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    images, state = pixels.float() / 255, np.random.get_state()[1].copy()  # noqa: NPY002
    every = seen_by(corruption_accuracy, images, severities=2, names=names)
    assert all(torch.isfinite(part).all() and part.shape == images.shape for part in every)
    by_name = dict(zip(expected_names, every, strict=True))
    for name in {"contrast", "pixelate", "jpeg_compression"} & set(by_name):  # without random numbers
        expected = library.corrupt(pixels[1].permute(1, 2, 0).numpy().astype(np.uint8), 2, name)
        assert np.allclose(by_name[name][1].permute(1, 2, 0) * 255, expected)
    monkeypatch.setattr(corruptions, "KEPT_BYTES", 0)  # corrupted anew, in another order
    again = seen_by(corruption_accuracy, images.flip(0), severities=2, names=names)
    assert all(torch.equal(part.flip(0), before) for part, before in zip(again, every, strict=True))
    assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002


@pytest.mark.parametrize(("limit", "kept"), [(2**12 - 1, 0), (2**12, 1), (2**13, 2)])
def test_corrupted_images_are_kept_up_to_the_limit(limit, kept, monkeypatch):
    store = {}
    monkeypatch.setattr(corruptions, "_kept", store)
    monkeypatch.setattr(corruptions, "KEPT_BYTES", limit)
    monkeypatch.setattr(corruptions, "_corrupt", lambda image, name, severity, seed: image + 1)
    for value in range(3):
        images = np.full((4, 32, 32, 1), value, np.uint8)  # 4 KiB
        assert (corruptions._corrupted(images, "fog", 1, 0) == value + 1).all()
        assert sum(part.nbytes for part in store.values()) <= limit
    assert len(store) == kept


def test_grey_images_stay_grey():
    pytest.importorskip("imagecorruptions", reason="it comes with the extra named qualities")
    (corrupted,) = seen_by(corruption_accuracy, torch.rand(2, 1, 32, 32), severities=1, names="gaussian_noise")
    assert corrupted.shape == (2, 1, 32, 32)


def test_a_part_of_the_samples_has_the_mean_of_its_outcomes():
    network = small_network()
    data = images_of(network)
    measured = outcomes(network, data, "fgsm_accuracy")
    rows = np.array([0, 3, 5, 7])
    alone = fgsm_accuracy(network, (data[0][rows], data[1][rows]))
    assert len(measured) == 40
    assert measured.of_rows(rows) == float(alone) == measured.columns[0][rows].mean()
    assert f"{float(measured):.4g}" in repr(measured)


ROBUST = ["noise_accuracy", "fgsm_accuracy", "pgd_accuracy", "ood_auroc", "pruned_accuracy"]


def test_data_of_every_form_and_other_calls_give_the_same_values():
    network = small_network()
    images, labels = images_of(network)
    expected = measure(network, (images, labels), ROBUST)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images, labels), batch_size=40)
    assert measure(network, loader, ROBUST) == expected
    assert measure(nn.DataParallel(network), (images.numpy(), labels.numpy()), ROBUST) == expected
    assert measure(network, (images, labels), ROBUST, forward=lambda n, batch: n(batch[0])) == expected
    assert all(0 <= value <= 1 and math.isfinite(value) for value in expected.values())


def test_the_network_and_the_random_state_are_left_as_they_were():
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(), nn.Flatten(), nn.Linear(72, 3)).train()
    data, state = (torch.rand(6, 1, 8, 8), torch.arange(6) % 3), copy.deepcopy(network.state_dict())
    random = torch.get_rng_state()
    robust = [name for name, quality in QUALITIES.items() if quality.held_out and name != "corruption_accuracy"]
    measure(network, data, robust)
    assert torch.equal(torch.get_rng_state(), random)
    assert network.training
    assert network[1].training
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_weights_and_images_that_lie_channels_last_have_the_same_qualities():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.Flatten(), nn.Linear(64, 3))
    images, labels = torch.rand(30, 3, 8, 8), torch.arange(30) % 3
    robust = [name for name, quality in QUALITIES.items() if quality.held_out and name != "corruption_accuracy"]
    expected = measure(network, (images, labels), robust)
    last = copy.deepcopy(network).to(memory_format=torch.channels_last)
    values = measure(last, (images.contiguous(memory_format=torch.channels_last), labels), robust)
    assert values == pytest.approx(expected, abs=1 / 30)  # rounding may decide one sample


def test_a_quality_with_other_settings_has_a_name_of_its_own():
    network = small_network()
    data = images_of(network)
    weaker = QUALITIES["fgsm_accuracy"].with_settings("fgsm_small", epsilons=1 / 255)
    values = measure(network, data, ["fgsm_accuracy", weaker])
    assert values["fgsm_small"] == float(fgsm_accuracy(network, data, epsilons=1 / 255)) > values["fgsm_accuracy"]
    assert "epsilons" in weaker.meaning


IMAGES, LABELS = torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 2, 0])


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("noise_accuracy", IMAGES, ["labels", "(inputs, labels)"]),
        ("calibration_error", {"x": IMAGES}, ["labels"]),
        ("noise_accuracy", None, ["'noise_accuracy'", "inputs"]),
        ("fgsm_accuracy", (IMAGES, LABELS + 1), ["1..3", "0..2"]),
        ("fgsm_accuracy", ((255 * IMAGES).byte(), LABELS), ["uint8", "floats"]),
        ("rotation_accuracy", (IMAGES.flatten(1), LABELS), ["(4, 64)", "height"]),
        ("noise_accuracy", (255 * IMAGES, LABELS), ["pixel_range", "(0.0, 1.0)"]),
        ("corruption_accuracy", (IMAGES, LABELS), ["8 x 8", "32"]),
        ("pruned_accuracy", (IMAGES[:0], LABELS[:0]), ["no samples"]),
    ],
)
def test_what_the_samples_lack_is_said_with_the_quality(name, data, words):
    if name == "corruption_accuracy":
        pytest.importorskip("imagecorruptions", reason="it comes with the extra named qualities")
    with pytest.raises(InputError) as error:
        measure(small_network(), data, [name])
    assert all(word in str(error.value) for word in [f"'{name}'", *words])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda n, data: noise_accuracy(n, data, deviations=-0.1), ["-0.1", "deviations"]),
        (lambda n, data: noise_accuracy(n, data, deviations=()), ["()", "deviations"]),
        (lambda n, data: noise_accuracy(n, data, deviations="0.1"), ["'0.1'", "deviations"]),
        (lambda n, data: outcomes(n, data, "noise_accuracy").of_rows([99]), ["[99]", "samples"]),
        (lambda n, data: noise_accuracy(n, data, pixel_range=(1, 0)), ["(1, 0)", "black"]),
        (lambda n, data: noise_accuracy(n, data, pixel_range=((0, 0, 0), 1)), ["3", "1"]),
        (lambda n, data: pgd_accuracy(n, data, steps=0), ["0", "at least 1"]),
        (lambda n, data: translation_accuracy(n, data, pixels=1.5), ["1.5", "whole"]),
        (lambda n, data: blur_accuracy(n, data, sigmas=3), ["3", "(8, 8)"]),
        (lambda n, data: rounded_accuracy(n, data, bits=1), ["1", "2"]),
        (lambda n, data: pruned_accuracy(nn.Flatten(), data), ["weights"]),
        (lambda n, data: noise_accuracy(nn.Identity(), data), ["(4, 1, 8, 8)", "forward="]),
        (lambda n, data: outcomes(n, data, "latency"), ["'latency'", "measure"]),
        (lambda n, data: outcomes(n, data, "noise"), ["'noise'", "list qualities"]),
    ],
)
def test_settings_that_do_not_fit_are_errors_that_say_what_to_do(call, words):
    with pytest.raises(InputError) as error:
        call(small_network(), (IMAGES, LABELS))
    assert all(word in str(error.value) for word in words)


def test_outputs_that_are_not_finite_are_an_error():
    network = small_network()
    nn.init.constant_(network[3].bias, math.nan)
    with pytest.raises(NonFiniteError, match="'noise_accuracy'"):
        measure(network, (IMAGES, LABELS), "noise_accuracy")


def test_a_network_without_a_gradient_cannot_be_attacked():
    class Steps(nn.Module):
        def forward(self, images):
            with torch.no_grad():
                return images.flatten(1)[:, :3].sign()

    with pytest.raises(InputError, match="gradient"):
        fgsm_accuracy(Steps(), (IMAGES, LABELS))
