"""Optuna's artifact stores by address: a folder, or a bucket of S3 or of a compatible service."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import optuna
from optuna.artifacts import Boto3ArtifactStore, FileSystemArtifactStore
from optuna.artifacts.exceptions import ArtifactNotFound
from optuna.trial import TrialState

from nas_relucode.errors import InputError

ATTRIBUTE = "artifacts"  # of a study: the address of its store
UNUSED_KEY = "nas-relucode"  # read to see whether a bucket answers; no artifact has this id
ADVICE = {
    "NoSuchBucket": "Create it, or give another bucket.",
    "AccessDenied": "The keys need s3:ListBucket, s3:GetObject, s3:PutObject and s3:DeleteObject on it.",
}
KEYS = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; AWS_ENDPOINT_URL for other services."
UNAVAILABLE = "Check that AWS_ENDPOINT_URL is right and reachable, then repeat the same command."
BUSY = {"SlowDown", "Throttling", "ThrottlingException", "RequestTimeout"}  # like the HTTP status codes from 500


class StoreUnavailableError(InputError):
    """An artifact store does not answer, but may do so later."""


def artifact_store(address: str | None, *, make: bool = True) -> Any:
    """The store at ``s3://BUCKET`` or in a folder; None for None. With ``make`` a missing folder is created.

    boto3 finds S3's keys and endpoint: in AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, a profile or a role. Raises InputError,
    now and whenever the store is used, if the bucket does not exist or the keys give no access, and
    StoreUnavailableError if it does not answer.
    """
    if address is None:
        return None
    parts = urlsplit(address)
    if parts.scheme == "s3":
        if not parts.netloc or parts.path.strip("/") or parts.username:
            raise InputError(
                "an S3 address holds more than a bucket. Give s3://BUCKET; keys are read from the environment."
            )
        return _bucket(parts.netloc)
    if parts.scheme:
        raise InputError(f"artifacts at {parts.scheme}:// are not supported. Give s3://BUCKET or a folder.")
    path = Path(address)
    if make:
        path.mkdir(parents=True, exist_ok=True)
    return FileSystemArtifactStore(path)


def set_store(study: optuna.Study, address: str) -> None:
    """Stores the address of the study's artifacts in the study, for every process that works on it or reads it.

    Raises InputError if trials have started with another store: their artifacts would not be found.
    """
    address = address.rstrip("/") if urlsplit(address).scheme else str(Path(address).resolve())
    stored = study.user_attrs.get(ATTRIBUTE)
    if stored == address:
        return
    if any(trial.state != TrialState.WAITING for trial in study.get_trials(deepcopy=False)):
        raise InputError(
            f"trials of study {study.study_name!r} keep their artifacts in {stored or 'the folder of each worker'}, "
            f"not in {address}. Give the same --artifacts as before, or another --study-name."
        )
    study.set_user_attr(ATTRIBUTE, address)


def study_store(study: optuna.Study, *, make: bool = True) -> Any:
    """The artifact store at the address in the study (see `set_store`); None if it has none."""
    return artifact_store(study.user_attrs.get(ATTRIBUTE), make=make)


class Bucket(Boto3ArtifactStore):
    """Optuna's artifact store in a bucket, with errors that say what to do."""

    def open_reader(self, artifact_id: str) -> BinaryIO:
        with _s3_errors(self.bucket):
            return io.BytesIO(super().open_reader(artifact_id).read())

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        with _s3_errors(self.bucket):
            super().write(artifact_id, content_body)

    def remove(self, artifact_id: str) -> None:
        with _s3_errors(self.bucket):
            super().remove(artifact_id)


def _bucket(name: str) -> Bucket:
    """The store in a bucket, after one request that it has answered."""
    try:
        with _s3_errors(name):
            store = Bucket(name)
        store.open_reader(UNUSED_KEY)
    except ImportError as error:
        raise InputError("S3 needs boto3. Do: pip install 'nas-relucode[s3]'") from error
    except ArtifactNotFound:
        pass
    return store


@contextmanager
def _s3_errors(bucket: str) -> Iterator[None]:
    """Turns errors of boto3 inside into InputErrors of one line that says what to do."""
    try:
        yield
    except ImportError:
        raise
    except Exception as error:
        from botocore import exceptions as boto  # type: ignore[import-untyped]

        cause = error.__cause__ if isinstance(error, ArtifactNotFound) else error
        if isinstance(cause, boto.ClientError):
            code, status = cause.response["Error"]["Code"], cause.response["ResponseMetadata"]["HTTPStatusCode"]
            if isinstance(error, ArtifactNotFound) and code != "NoSuchBucket":
                raise
            unavailable = status >= 500 or code in BUSY
            advice = UNAVAILABLE if unavailable else ADVICE.get(code, KEYS)
        elif isinstance(cause, boto.BotoCoreError | ValueError):  # ValueError: an endpoint that is not a URL
            unavailable = isinstance(cause, boto.HTTPClientError | boto.ConnectionError | boto.IncompleteReadError)
            advice = UNAVAILABLE if unavailable else KEYS
        else:
            raise
        reason = " ".join(str(cause).split())
        error_class = StoreUnavailableError if unavailable else InputError
        raise error_class(f"the bucket s3://{bucket} cannot be used ({reason}). {advice}") from error
