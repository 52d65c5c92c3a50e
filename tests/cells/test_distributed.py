"""Codes of shards equal those of one pass, for any number of processes and even if some are killed."""

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from nas_relucode import InputError, build_network, code_space, load_data
from nas_relucode.cells import load_code_space, save_code_space
from nas_relucode.cells.shards import code_space_of_shards, cut_into_shards
from nas_relucode.errors import NonFiniteError

BATCH = 50


def network(seed=1, backbone="none", image_shape=(1, 8, 8)):
    return build_network("12-6", image_shape, 10, backbone=backbone, seed=seed)


@pytest.fixture(scope="module")
def digits():
    split = load_data("digits").train
    return split.inputs, split.labels


@pytest.fixture
def shards(digits, tmp_path):
    """A folder of six shards of digits."""
    folder = tmp_path / "shards"
    folder.mkdir()
    for number, (inputs, labels) in enumerate(cut_into_shards(digits, 6, batch_size=BATCH)):
        np.savez(folder / f"{number}.npz", inputs=inputs.numpy(), labels=labels.numpy())
    return folder


@pytest.fixture
def whole(digits, tmp_path):
    """The bytes of the code space of one pass."""
    return save_code_space(code_space(network(), digits, batch_size=BATCH), tmp_path / "whole.npz").read_bytes()


def record(shards, folder, net=None, **settings):
    return code_space_of_shards(net or network(), shards, folder=folder, **{"batch_size": BATCH, **settings})


def content(space, tmp_path):
    return save_code_space(space, tmp_path / "space.npz").read_bytes()


def times(folder):
    return {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}


@pytest.mark.slow
def test_codes_of_60000_images_in_1_2_and_4_shards_are_byte_equal(data_root, tmp_path):
    images = load_data("mnist", data_root=data_root).train
    net = build_network("64-32", (1, 28, 28), 10, backbone="none", seed=1)
    expected = content(code_space(net, images), tmp_path)
    for count in (1, 2, 4):
        cut = cut_into_shards(images, count)
        assert len(cut) == count
        assert content(record(cut, tmp_path / f"{count}", net, batch_size=512), tmp_path) == expected


def test_a_folder_of_shards_gives_the_bytes_of_the_whole_and_is_recorded_once(shards, whole, tmp_path):
    seen = []
    assert content(record(shards, tmp_path / "recorded", on_shard=lambda *shard: seen.append(shard)), tmp_path) == whole
    assert [number for number, _ in seen] == list(range(6))
    assert sum(space.samples for _, space in seen) == load_code_space(tmp_path / "whole.npz").samples
    before = times(tmp_path / "recorded")
    assert sorted(before) == [f"shard-{number:06}.npz" for number in range(6)]

    def never(*_):
        raise AssertionError("a forward pass")

    net = network()
    net.register_forward_hook(never)
    assert content(record(shards, tmp_path / "recorded", net), tmp_path) == whole
    assert times(tmp_path / "recorded") == before


def test_all_data_that_code_space_accepts_may_be_a_shard(digits, whole, tmp_path):
    first, second, third = cut_into_shards(digits, 3, batch_size=BATCH)
    np.savez(tmp_path / "first.npz", inputs=first[0], labels=first[1])
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*second), batch_size=BATCH)
    merged = record([tmp_path / "first.npz", loader, third], tmp_path / "recorded", nn.DataParallel(network()))
    assert content(merged, tmp_path) == whole


def test_chosen_layers_and_statistics_of_the_batch_are_those_of_one_pass(digits, tmp_path):
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 10))
    chosen = {"layers": ["3"], "mode": "train", "preset": "released_code", "batch_size": BATCH}
    expected = content(code_space(net, digits, **chosen), tmp_path)
    assert (
        content(record(cut_into_shards(digits, 4, batch_size=BATCH), tmp_path / "a", net, **chosen), tmp_path)
        == expected
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"net": network(seed=2)}, "other weights"),
        ({"net": nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.ReLU())}, "network 'Network' and not 'Sequential'"),
        ({"layers": "head.1"}, r"layers \['all'\] and not \['head.1'\]"),
        ({"maps": "channel"}, "maps 'pixel' and not 'channel'"),
        ({"batch_size": 40}, "batch_size 50 and not 40"),
    ],
)
def test_shards_of_another_network_or_other_settings_are_refused(shards, tmp_path, change, message):
    record(shards, tmp_path / "recorded")
    before = times(tmp_path / "recorded")
    with pytest.raises(InputError, match=rf"shard 0: .*shard-000000.npz does not fit: .*{message}"):
        record(shards, tmp_path / "recorded", **change)
    assert times(tmp_path / "recorded") == before


def test_the_same_weights_behind_other_activations_are_another_network(digits, tmp_path):
    one, other = (nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.LeakyReLU(slope)) for slope in (0.1, 0.2))
    other.load_state_dict(one.state_dict())
    record([digits], tmp_path, one)
    with pytest.raises(InputError, match="other weights"):
        record([digits], tmp_path, other)


def test_shards_of_other_data_are_refused(shards, tmp_path):
    record(shards, tmp_path / "recorded")
    (shards / "2.npz").rename(shards / "x.npz")
    (shards / "3.npz").rename(shards / "2.npz")
    (shards / "x.npz").rename(shards / "3.npz")
    with pytest.raises(InputError, match=r"shard 2: .*does not fit: other data\. Name another folder"):
        record(shards, tmp_path / "recorded")


def test_a_code_space_that_is_no_shard_and_one_that_was_altered_are_refused(shards, digits, tmp_path):
    recorded = tmp_path / "recorded"
    record(shards, recorded)
    save_code_space(code_space(network(), digits), recorded / "shard-000001.npz")
    with pytest.raises(InputError, match=r"shard 1: .*does not fit: batch_size None and not 50, other weights"):
        record(shards, recorded)
    (recorded / "shard-000001.npz").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"shard 1: .*not a code space"):
        record(shards, recorded)


def test_the_folder_of_the_shards_themselves_is_refused(shards):
    for given in (shards, shards / "0.npz"):
        with pytest.raises(InputError, match="holds the shards themselves"):
            record(given, shards)


def test_an_error_names_the_shard_and_keeps_its_type(digits, shards, tmp_path):
    inputs, labels = digits
    with pytest.raises(NonFiniteError, match="shard 1: layer"):
        record([(inputs, labels), (inputs * np.nan, labels)], tmp_path / "a")
    (shards / "4.npz").write_bytes(b"")
    with pytest.raises(InputError, match=r"shard 4: .*4\.npz cannot be read"):
        record(shards, tmp_path / "b")
    assert len(times(tmp_path / "b")) == 4


# What follows starts processes: each runs this script, with the functions of the case before it.
SCRIPT = """
import json, os, signal, sys, time
from pathlib import Path
import torch
from torch import distributed
from nas_relucode import build_network
from nas_relucode.cells import save_code_space
from nas_relucode.cells.shards import code_space_of_shards
from nas_relucode.cells.shards import list_shards

torch.set_num_threads(1)
here, rank = Path(sys.argv[1]), int(os.environ.get("RANK", 0))

class Asked(list):  # which shards a process asks for
    def __init__(self, shards):
        super().__init__(shards)
        self.numbers = []

    def __getitem__(self, number):
        self.numbers.append(number)
        return super().__getitem__(number)

def network(seed=1):
    return build_network("12-6", (1, 8, 8), 10, backbone="none", seed=seed)

def record(folder, net, shards, **settings):
    try:
        space = code_space_of_shards(net, shards, folder=here / folder, batch_size=50, **settings)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    if space is None:
        return None
    return str(save_code_space(space, here / f"{folder}.npz"))
"""
TOGETHER = """
shards = Asked(list_shards(here / "shards"))
results = {"alone": record("alone", network(), shards), "asked": list(shards.numbers)}
results["weights"] = record("weights", network(seed=rank), shards)
results["count"] = record("count", network(), shards[: 6 - rank])
results["failed"] = record("failed", network(), [here / "none.npz" if n == 1 else s for n, s in enumerate(shards)])
results["recorded"] = sorted(file.name for file in (here / "failed").iterdir())
results["left"] = distributed.is_initialized()
distributed.init_process_group("gloo")
results["own group"] = record("own", network(), shards)
distributed.barrier()
results["kept"] = distributed.is_initialized()
distributed.destroy_process_group()
(here / f"results-{rank}.json").write_text(json.dumps(results))
"""
SLOW = """
net = network()
net.register_forward_hook(lambda *_: time.sleep(0.02))
print(record("recorded", net, here / "shards"), flush=True)
"""


@pytest.fixture
def start(tmp_path):
    """Starts the processes of one group with the variables that torchrun sets, or torchrun; none outlives the test."""
    processes = []

    def started(script, world=1, torchrun=()):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        (tmp_path / "script.py").write_text(SCRIPT + script)
        path = os.pathsep.join([str(Path(__file__).parents[2]), *(place for place in sys.path if place)])
        group = {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        for rank in range(world):
            with (tmp_path / f"log-{rank}").open("w") as log:
                command = [sys.executable, *torchrun, "script.py", str(tmp_path)]
                env = os.environ | {"PYTHONPATH": path} | ({} if torchrun else group | {"RANK": str(rank)})
                processes.append(subprocess.Popen(command, cwd=tmp_path, env=env, stdout=log, stderr=log))
        return processes[-world:]

    yield started
    for process in processes:
        process.terminate()  # torchrun ends its own
        process.wait()


def log(folder, rank=0):
    return (folder / f"log-{rank}").read_text()[-3000:]


def finished(folder, processes):
    for rank, process in enumerate(processes):
        assert process.wait(timeout=200) == 0, log(folder, rank)


def wait_for(folder, shards):
    """Waits until this many shards are recorded, but not all."""
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline:
        if folder.is_dir() and len(list(folder.glob("shard-*.npz"))) >= shards:
            return
        time.sleep(0.01)
    raise AssertionError(f"{shards} shards were not recorded in time")


@pytest.mark.slow
def test_two_processes_share_the_shards_and_report_each_others_errors(shards, whole, start, tmp_path):
    finished(tmp_path, start(TOGETHER, torchrun=["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]))
    first, second = (json.loads((tmp_path / f"results-{rank}.json").read_text()) for rank in (0, 1))
    for name in ("alone", "own"):
        assert (tmp_path / f"{name}.npz").read_bytes() == whole
    assert first["alone"] == str(tmp_path / "alone.npz")
    assert second["alone"] is second["own group"] is None
    assert (first["asked"], second["asked"]) == ([0, 2, 4], [1, 3, 5])
    for results in (first, second):
        assert results["weights"].startswith("InputError: process 1 differs from process 0: other weights")
        assert results["count"].startswith("InputError: process 1 differs from process 0: shards 5 and not 6")
        assert (results["left"], results["kept"]) == (False, True)
    for words in ("shard 1", "none.npz", "there is no"):
        assert words in second["failed"]
    assert second["failed"].startswith("InputError")
    assert first["failed"].startswith("ProcessesError: process 1 could not go on (InputError: shard 1")
    assert first["recorded"] == [f"shard-{number:06}.npz" for number in (0, 2, 4)]


def test_a_killed_process_resumes_with_the_missing_shards(shards, whole, start, tmp_path):
    (process,) = start(SLOW)
    recorded = tmp_path / "recorded"
    wait_for(recorded, 2)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    before = times(recorded)
    assert 2 <= len([name for name in before if name.startswith("shard-")]) < 6
    assert content(record(shards, recorded), tmp_path) == whole
    after = times(recorded)
    assert {name: after[name] for name in before if name in after} == {
        name: at for name, at in before.items() if name.startswith("shard-")
    }
    assert len(after) == 6


@pytest.mark.slow
def test_a_killed_process_ends_the_others_and_any_number_resumes(shards, whole, start, tmp_path):
    processes = start(SLOW, world=2)
    recorded = tmp_path / "recorded"
    wait_for(recorded, 2)
    processes[1].kill()
    finished(tmp_path, processes[:1])  # at once, or after its own shards
    assert "ProcessesError: a process ended before all" in log(tmp_path)
    assert {f"shard-{number:06}.npz" for number in (0, 2, 4)} <= set(times(recorded))
    assert not (recorded / "shard-000005.npz").exists()
    assert content(record(shards, recorded), tmp_path) == whole


RAY = """
import time
import numpy as np
import ray

def slow(columns):  # the first block is the last to be done
    time.sleep(0.5 if columns["labels"][0] == 0 else 0)
    return {"inputs": columns["inputs"], "labels": columns["labels"]}

ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
files = list_shards(here / "shards")
arrays = [dict(np.load(file)) for file in files]
every = {name: np.concatenate([part[name] for part in arrays]) for name in ("inputs", "labels")}
one = ray.data.from_numpy([part["inputs"] for part in arrays]).rename_columns({"data": "inputs"}).zip(
    ray.data.from_numpy([part["labels"] for part in arrays]).rename_columns({"data": "labels"})
)
results = {"one": record("one", network(), one.map_batches(slow, batch_size=None))}
several = [
    ray.data.from_items([{"inputs": x, "labels": int(y)} for x, y in zip(part["inputs"], part["labels"])])
    for part in arrays
]
results["several"] = record("several", network(), several)
results["again"] = record("several", network(), here / "shards")  # of the same content, they are the same shards
refused = record("refused", network(), one.drop_columns(["inputs"]))
results["refused"] = refused
(here / "results.json").write_text(json.dumps(results))
"""


@pytest.mark.slow
def test_ray_datasets_give_the_bytes_of_the_whole(shards, whole, start, tmp_path):
    if importlib.util.find_spec("ray") is None or importlib.util.find_spec("pyarrow") is None:
        pytest.skip("Ray Data is not installed")
    finished(tmp_path, start(RAY))
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["refused"].startswith("InputError: shard 0: the Ray Dataset holds no inputs")
    for name in ("one", "several", "again"):
        assert results[name].endswith(".npz"), results[name]
        assert Path(results[name]).read_bytes() == whole


NCCL = """
distributed.init_process_group("nccl")
device = torch.device("cuda", rank % torch.cuda.device_count())
print(record(f"world-{distributed.get_world_size()}", network().to(device), here / "shards"))
distributed.destroy_process_group()
"""


@pytest.mark.gpu
def test_processes_of_an_nccl_group_give_the_bytes_of_one(shards, start, tmp_path):
    if not torch.cuda.is_available() or not torch.distributed.is_nccl_available():
        pytest.skip("no GPU with nccl")
    for world in (1, 2):
        finished(tmp_path, start(NCCL, world=world))
    assert (tmp_path / "world-2.npz").read_bytes() == (tmp_path / "world-1.npz").read_bytes()
    space = load_code_space(tmp_path / "world-2.npz")
    assert space.samples == load_data("digits").train.inputs.shape[0]
