"""Indices over the epochs of a training, which takes the same course with and without; as Lightning's callback too."""

import copy
import math

import pytest
import torch
from torch import nn

from nas_relucode.errors import InputError
from nas_relucode.integrations.epoch_indices import EpochIndices, lightning_callback
from nas_relucode.scoring.scores import score
from nas_relucode.training.data import ImageData, load_data
from nas_relucode.training.loop import train
from nas_relucode.training.networks import build_network
from nas_relucode.training.recipe import Recipe

RECIPE = Recipe(epochs=3, batch_size=32)
NAMES = ["cell_count", "knn_accuracy", "parameter_count"]


@pytest.fixture(scope="module")
def data() -> ImageData:
    return load_data("digits", classes=(0, 1, 2), train_samples=120, test_samples=20, validation=0.25)


def build(data):
    return build_network("8-8", data.image_shape, classes=3, backbone="none")


def weights(network):
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def trained(data, **callbacks):
    network = build(data)
    train(network, data.train, learning_rate=0.1, recipe=RECIPE, **callbacks)
    return network


def test_each_epoch_is_scored_as_score_does(data):
    network, expected = build(data), []
    record = EpochIndices(network, data, indices=NAMES, layers="head")

    def on_epoch(epoch):
        scores = score(copy.deepcopy(network), data, indices=NAMES, layers="head").as_dict()
        loss = None if math.isnan(epoch.loss) else epoch.loss
        expected.append({"epoch": epoch.number, "loss": loss, **scores})
        assert record(epoch) == expected[-1]

    train(network, data.train, learning_rate=0.1, recipe=RECIPE, on_epoch=on_epoch)
    assert record.points == expected
    assert [point["epoch"] for point in record.points] == [0, 1, 2, 3]
    assert record.points[0]["loss"] is None


def test_a_training_takes_the_same_course_with_and_without(data):
    network = build(data)
    record = EpochIndices(network, data.validation)
    train(network, data.train, learning_rate=0.1, recipe=RECIPE, on_epoch=record)
    assert len(record.points) == 4
    assert torch.equal(weights(network), weights(trained(data)))


def test_in_your_own_loop_epochs_are_counted_or_given(data):
    record = EpochIndices(build(data), (data.train.inputs, data.train.labels))
    record()
    record()
    record(7)
    record()
    assert [point["epoch"] for point in record.points] == [0, 1, 7, 8]


def test_every_so_many_epochs(data):
    record = EpochIndices(build(data), data.validation, every=3)
    points = [record() for _ in range(7)]
    assert [point["epoch"] for point in record.points] == [0, 3, 6]
    assert [point is None for point in points] == [False, True, True, False, True, True, False]


def test_a_data_loader_is_read_anew_each_time(data):
    loader = torch.utils.data.DataLoader(list(zip(data.train.inputs, data.train.labels, strict=True)), batch_size=7)
    network = build(data)
    record = EpochIndices(network, loader, indices="cell_count")
    assert record()["joint"] == record()["joint"] == score(network, data.train, indices=["cell_count"]).joint


def test_the_frame_has_a_row_for_each_epoch_and_layer(data):
    record = EpochIndices(build(data), data, indices=NAMES, layers="head")
    record()
    record()
    frame = record.frame()
    assert list(frame.columns) == ["epoch", "layer", "loss", "train_accuracy", *NAMES]
    assert frame["layer"].tolist() == ["joint", "head.1", "head.3"] * 2
    row = frame[(frame["epoch"] == 1) & (frame["layer"] == "head.3")].iloc[0]
    assert row["cell_count"] == record.points[1]["layers"]["head.3"]["cell_count"]
    assert math.isnan(row["parameter_count"])  # the network's, not a layer's
    assert EpochIndices(build(data), data).frame().empty


def test_what_can_not_be_used_is_refused(data):
    with pytest.raises(InputError, match="data is an iterator, which is empty after the first epoch"):
        EpochIndices(build(data), iter([data.train.inputs]))
    with pytest.raises(InputError, match="every 0"):
        EpochIndices(build(data), data, every=0)
    with pytest.raises(InputError, match="no network to score"):
        EpochIndices(None, data)()
    with pytest.raises(InputError, match="unknown index 'cells'"):
        EpochIndices(build(data), data, indices=["cells"])()


class TestLightning:
    """Against the real trainer."""

    pytestmark = [
        pytest.mark.slow,  # it takes seconds to import
        pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*:FutureWarning"),
    ]

    @pytest.fixture
    def pl(self):
        return pytest.importorskip("lightning.pytorch")

    @pytest.fixture
    def fit(self, pl, data, tmp_path):
        class Classifier(pl.LightningModule):
            def __init__(self):
                super().__init__()
                self.network = build(data)

            def forward(self, images):
                return self.network(images)

            def training_step(self, batch, number):
                return nn.functional.cross_entropy(self(batch[0]), batch[1])

            def configure_optimizers(self):
                return torch.optim.SGD(self.parameters(), lr=0.1)

        def run(*callbacks, epochs=2, ckpt_path=None, **settings):
            module = Classifier()
            torch.manual_seed(3)  # orders the samples
            dataset = torch.utils.data.TensorDataset(data.train.inputs, data.train.labels)
            loader = torch.utils.data.DataLoader(dataset, batch_size=30, shuffle=True)
            quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
            quiet |= {"enable_checkpointing": False, "accelerator": "cpu", "default_root_dir": tmp_path}
            trainer = pl.Trainer(max_epochs=epochs, callbacks=list(callbacks), **(quiet | settings))
            trainer.fit(module, loader, ckpt_path=ckpt_path)
            return trainer, module

        return run

    def test_the_callback_records_and_logs_each_epoch(self, fit, data):
        record = EpochIndices(None, data.validation, indices=NAMES)
        trainer, module = fit(lightning_callback(record))
        assert [point["epoch"] for point in record.points] == [0, 1, 2]
        expected = score(module, data.validation, indices=NAMES)
        assert record.points[-1]["joint"] == expected.joint
        assert set(record.points[-1]["layers"]) == {"network.head.1", "network.head.3"}
        for name, value in {expected.accuracy_name: expected.accuracy, **expected.joint}.items():
            assert float(trainer.callback_metrics[f"relucode/{name}"]) == pytest.approx(value)

    def test_a_part_of_the_module_may_be_scored(self, fit, data):
        record = EpochIndices(None, data.validation, layers="head")
        fit(lightning_callback(record, network=lambda module: module.network))
        assert set(record.points[0]["layers"]) == {"head.1", "head.3"}

    def test_a_training_takes_the_same_course_with_and_without(self, fit, data):
        record = EpochIndices(None, data.validation)
        with_it, without = fit(lightning_callback(record))[1], fit()[1]
        assert torch.equal(weights(with_it), weights(without))

    def test_early_stopping_takes_the_logged_index(self, pl, fit, data):
        record = EpochIndices(None, data.validation, indices=["parameter_count"])
        stop = pl.callbacks.EarlyStopping("relucode/parameter_count", patience=1, check_on_train_epoch_end=True)
        trainer, _ = fit(lightning_callback(record), stop, epochs=9)
        assert trainer.current_epoch == 2  # parameters never get fewer

    def test_a_resumed_training_goes_on_with_its_points(self, fit, data, tmp_path):
        first = EpochIndices(None, data.validation)
        trainer, _ = fit(lightning_callback(first))
        trainer.save_checkpoint(tmp_path / "last.ckpt")
        second = EpochIndices(None, data.validation)
        fit(lightning_callback(second), epochs=3, ckpt_path=tmp_path / "last.ckpt")
        assert [point["epoch"] for point in second.points] == [0, 1, 2, 3]
        assert second.points[:3] == first.points
