"""Artifact stores in a folder and on moto's S3 server, with which machines without a shared disk run one study."""

import threading
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.artifacts import Boto3ArtifactStore, FileSystemArtifactStore
from optuna.artifacts.exceptions import ArtifactNotFound
from optuna.trial import TrialState
from small_studies import settings_in
from storages import study_in

from nas_relucode.cli.main import main
from nas_relucode.errors import InputError
from nas_relucode.study.artifact_stores import StoreUnavailableError, artifact_store, set_store, study_store
from nas_relucode.training.recipe import Recipe
from nas_relucode.workers.planning import plan_study
from nas_relucode.workers.stopping import Stop
from nas_relucode.workers.worker import work

KEYS = {"AWS_ACCESS_KEY_ID": "me", "AWS_SECRET_ACCESS_KEY": "s3cret", "AWS_DEFAULT_REGION": "us-east-1"}


class S3:
    """moto's server on a loopback port, and a client of its own."""

    def __init__(self) -> None:
        self.server = pytest.importorskip("moto.server", reason="no S3: pip install 'moto[s3]' flask flask-cors")
        self.port, self.buckets = 0, 0
        self.start()

    def start(self) -> None:
        self.running = self.server.ThreadedMotoServer(ip_address="127.0.0.1", port=self.port, verbose=False)
        self.running.start()
        self.port = self.running.get_host_and_port()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        self.running.stop()

    def client(self) -> Any:
        import boto3

        names = {"AWS_ACCESS_KEY_ID": "aws_access_key_id", "AWS_SECRET_ACCESS_KEY": "aws_secret_access_key"}
        keys = {word: KEYS[name] for name, word in names.items()}
        return boto3.client("s3", endpoint_url=self.url, region_name="us-east-1", **keys)

    def bucket(self) -> str:
        """The address of a new bucket."""
        self.buckets += 1
        self.client().create_bucket(Bucket=f"bucket-{self.buckets}")
        return f"s3://bucket-{self.buckets}"

    def keys(self, address: str) -> list[str]:
        listing = self.client().list_objects_v2(Bucket=address.removeprefix("s3://"))
        return [item["Key"] for item in listing.get("Contents", [])]


@pytest.fixture(scope="module")
def server() -> Iterator[S3]:
    server = S3()
    yield server
    server.stop()


@pytest.fixture
def s3(server: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> S3:
    """The server, with boto3's environment variables pointing to it."""
    own = {"AWS_ENDPOINT_URL": server.url, "AWS_MAX_ATTEMPTS": "1", "AWS_EC2_METADATA_DISABLED": "true"}
    files = {name: str(tmp_path / "none") for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE")}
    forget_keys(monkeypatch)
    for name, value in (KEYS | own | files).items():
        monkeypatch.setenv(name, value)
    return server


def forget_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    import boto3

    for name in (*KEYS, "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # it caches the keys


def test_a_bucket_returns_what_was_written_until_it_is_removed(s3: S3):
    address, content = s3.bucket(), bytes(range(256)) * 50_000  # more than a part of 8 MB
    store = artifact_store(address)
    assert isinstance(store, Boto3ArtifactStore)
    store.write("key", BytesIO(content))
    assert s3.keys(address) == ["key"]
    assert artifact_store(address).open_reader("key").read() == content
    store.remove("key")
    assert s3.keys(address) == []
    store.remove("key")
    with pytest.raises(ArtifactNotFound):
        store.open_reader("key")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, r"s3://not-there cannot be used .*NoSuchBucket.* Create it, or give another bucket\."),
        ({"AWS_SECRET_ACCESS_KEY": None}, "Partial credentials .* Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        (dict.fromkeys(KEYS), "Unable to locate credentials.* Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        ({"AWS_PROFILE": "gone"}, r"profile \(gone\) could not be found"),
        ({"AWS_ENDPOINT_URL": "nonsense"}, "Invalid endpoint: nonsense.* AWS_ENDPOINT_URL"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, "Could not connect.* AWS_ENDPOINT_URL is right"),
    ],
)
def test_an_unusable_bucket_is_an_error_of_one_line_with_the_remedy(
    s3: S3, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str | None], message: str
):
    for name, value in changes.items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=message) as refused:
        artifact_store("s3://not-there")
    assert "\n" not in str(refused.value)
    assert KEYS["AWS_SECRET_ACCESS_KEY"] not in str(refused.value)


@pytest.mark.parametrize(
    ("status", "code", "kind", "message"),
    [
        (403, "AccessDenied", InputError, r"s3:ListBucket, s3:GetObject, s3:PutObject and s3:DeleteObject"),
        (403, "InvalidAccessKeyId", InputError, "Set AWS_ACCESS_KEY_ID"),
        (403, "SignatureDoesNotMatch", InputError, "Set AWS_ACCESS_KEY_ID"),
        (400, "ExpiredToken", InputError, "Set AWS_ACCESS_KEY_ID"),
        (503, "SlowDown", StoreUnavailableError, "repeat the same command"),
        (500, "InternalError", StoreUnavailableError, "repeat the same command"),
    ],
)
def test_a_refusal_and_an_outage_have_different_errors(
    s3: S3, status: int, code: str, kind: type[InputError], message: str
):
    from botocore.stub import Stubber

    store = artifact_store(s3.bucket())
    with Stubber(store.client) as stub:
        for operation, action in {"get_object": store.open_reader, "delete_object": store.remove}.items():
            stub.add_client_error(operation, code, http_status_code=status)
            with pytest.raises(InputError, match=message) as refused:
                action("key")
            assert type(refused.value) is kind


def test_a_bucket_or_server_that_disappears_is_an_error_with_the_remedy(s3: S3):
    address = s3.bucket()
    store = artifact_store(address)
    s3.client().delete_bucket(Bucket=address.removeprefix("s3://"))
    for use in (lambda: store.write("key", BytesIO(b"x")), lambda: store.open_reader("key")):
        with pytest.raises(InputError, match=r"NoSuchBucket.* Create it") as refused:
            use()
        assert not isinstance(refused.value, StoreUnavailableError)
    s3.stop()
    try:
        with pytest.raises(StoreUnavailableError, match="Could not connect"):
            store.write("key", BytesIO(b"x"))
    finally:
        s3.start()


@pytest.mark.parametrize("address", ["s3://", "s3://bucket/folder", "s3://me:s3cret@bucket", "s3:bucket", "gs://b"])
def test_an_invalid_address_is_refused_with_an_example(address: str):
    with pytest.raises(InputError, match="s3://BUCKET") as refused:
        artifact_store(address)
    assert "s3cret" not in str(refused.value)


def test_a_folder_is_created_for_writing_and_not_for_reading(tmp_path: Path):
    store = artifact_store(str(tmp_path / "to" / "read"), make=False)
    assert not (tmp_path / "to").exists()
    with pytest.raises(ArtifactNotFound):
        store.open_reader("key")
    artifact_store(str(tmp_path / "to" / "write")).write("key", BytesIO(b"content"))
    assert (tmp_path / "to" / "write" / "key").read_bytes() == b"content"
    assert artifact_store(None) is None


def test_a_study_keeps_the_address_of_its_store_in_any_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    study = optuna.create_study()
    assert study_store(study) is None
    monkeypatch.chdir(tmp_path)
    set_store(study, "store")
    study_store(study).write("key", BytesIO(b"content"))
    study.ask()
    with pytest.raises(InputError, match=r"artifacts in .*store, not in s3://bucket"):
        set_store(study, "s3://bucket")
    set_store(study, "store")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    store = study_store(study, make=False)
    assert isinstance(store, FileSystemArtifactStore)
    with store.open_reader("key") as reader:
        assert reader.read() == b"content"


class Watch:
    """Records the trained epochs; requests a stop after a given epoch of a trial."""

    def __init__(self, stop_at: tuple[int, int] | None = None) -> None:
        self.epochs: list[tuple[int, int]] = []
        self.stop, self.stop_at = Stop(), stop_at

    def epoch(self, number: int, epoch: Any, point: dict[str, Any]) -> None:
        self.epochs.append((number, epoch.number))
        if (number, epoch.number) == self.stop_at:
            self.stop.request("SIGTERM")


def worker(folder: Path, url: str, watch: Watch, **options: Any) -> int:
    return work("own", storage=url, device="cpu", folder=folder, on_epoch=watch.epoch, stop=watch.stop, **options)


def test_machines_without_a_shared_disk_continue_each_others_trainings(
    s3: S3, tmp_path: Path, queue_url: str, monkeypatch: pytest.MonkeyPatch
):
    address = s3.bucket()
    settings = settings_in(tmp_path, training=Recipe(epochs=4, batch_size=35))
    plan_study("own", settings, storage=queue_url, heartbeat=1, artifacts=address)
    first = Watch(stop_at=(0, 2))
    assert worker(tmp_path / "one", queue_url, first) == 0
    assert [key.partition("-")[0] for key in s3.keys(address)] == ["checkpoint"]
    second = Watch()
    assert worker(tmp_path / "two", queue_url, second) == 2
    assert [epoch for trial, epoch in second.epochs if trial == 2] == [3, 4]

    assert s3.keys(address) == []  # the checkpoints are gone
    assert [trial.state for trial in study_in(queue_url).trials].count(TrialState.COMPLETE) == 2

    monkeypatch.chdir(tmp_path)  # without files of the study
    monkeypatch.setenv("OPTUNA_STORAGE", queue_url)
    forget_keys(monkeypatch)  # whoever reads the results needs no keys
    assert main(["select", "own"]) == 0
    assert main(["report", "own"]) == 0


class Outage(Watch):
    """Stops the server after one epoch and starts it after another, or never."""

    def __init__(self, s3: S3, begin: int, end: int | None = None) -> None:
        super().__init__()
        self.s3, self.begin, self.end = s3, begin, end

    def epoch(self, number: int, epoch: Any, point: dict[str, Any]) -> None:
        super().epoch(number, epoch, point)
        if epoch.number == self.begin:
            self.s3.stop()
        if epoch.number == self.end:
            self.s3.start()


def test_a_worker_continues_to_train_while_its_store_is_unavailable(s3: S3, tmp_path: Path, queue_url: str):
    address = s3.bucket()
    settings = settings_in(tmp_path, ("8",), training=Recipe(epochs=3, batch_size=35))
    plan_study("own", settings, storage=queue_url, artifacts=address)
    outage = Outage(s3, 1, 2)
    assert worker(tmp_path / "one", queue_url, outage) == 1
    assert [epoch for _, epoch in outage.epochs] == [0, 1, 2, 3]
    assert [trial.state for trial in study_in(queue_url).trials] == [TrialState.COMPLETE]


def test_a_starting_worker_waits_for_its_store_and_then_exits_with_code_1(
    s3: S3, tmp_path: Path, queue_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    address = s3.bucket()
    plan_study("own", settings_in(tmp_path, ("8",)), storage=queue_url, artifacts=address)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPTUNA_STORAGE", queue_url)
    s3.stop()
    restart = threading.Timer(0.5, s3.start)
    try:
        for options in ([], ["--artifacts", address]):
            assert main(["worker", "own", "--device", "cpu", "--patience", "0", *options]) == 1
            assert "the storage was unavailable for 0 s (Could not connect" in capsys.readouterr().err
    finally:
        restart.start()
    assert main(["worker", "own", "--device", "cpu"]) == 0
    restart.join()
    assert [trial.state for trial in study_in(queue_url).trials] == [TrialState.COMPLETE]
