"""Optuna's artifact stores by their addresses: a folder, or a bucket of S3 or of what speaks its language."""

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
NOTHING = "nas-relucode"  # a key under which nothing lies
ADVICE = {
    "NoSuchBucket": "Create it, or name another.",
    "AccessDenied": "The keys need s3:ListBucket, s3:GetObject, s3:PutObject and s3:DeleteObject there.",
}
KEYS = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; AWS_ENDPOINT_URL if it is not Amazon's."
AWAY = "See that AWS_ENDPOINT_URL is right and that it can be reached; the same command then goes on."
BUSY = {"SlowDown", "Throttling", "ThrottlingException", "RequestTimeout"}  # besides what HTTP calls the server's fault


class StoreAwayError(InputError):
    """A store that does not answer, but may do so later."""


def artifact_store(address: str | None, *, make: bool = True) -> Any:
    """The store at ``s3://BUCKET``, or in a folder, which ``make`` makes if it is missing; None for None.

    S3's keys and endpoint come from where boto3 takes them: AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, a profile, a role.
    Raises InputError, now and whenever the store is used, if there is no such bucket or the keys do not open it, and
    StoreAwayError if it does not answer.
    """
    if address is None:
        return None
    parts = urlsplit(address)
    if parts.scheme == "s3":
        if not parts.netloc or parts.path.strip("/") or parts.username:
            raise InputError("an address of S3 names a bucket alone: s3://BUCKET. Keys are read from the environment.")
        return _bucket(parts.netloc)
    if parts.scheme:
        raise InputError(f"there is no artifact store for {parts.scheme}://. Give s3://BUCKET, or a folder.")
    path = Path(address)
    if make:
        path.mkdir(parents=True, exist_ok=True)
    return FileSystemArtifactStore(path)


def name_store(study: optuna.Study, address: str) -> None:
    """Writes down where the study's artifacts lie, for all who work on it or read it.

    Raises InputError if trials have been started with another place: what they keep there would not be found.
    """
    named = address.rstrip("/") if urlsplit(address).scheme else str(Path(address).resolve())
    then = study.user_attrs.get(ATTRIBUTE)
    if then == named:
        return
    if any(trial.state != TrialState.WAITING for trial in study.get_trials(deepcopy=False)):
        place = then or "the folder of each worker"
        raise InputError(
            f"trials of study {study.study_name!r} were to keep their artifacts in {place}, not in {named}. "
            "Give the same --artifacts as before, or another --study-name."
        )
    study.set_user_attr(ATTRIBUTE, named)


def store_of(study: optuna.Study, *, make: bool = True) -> Any:
    """The store that `name_store` named; None if it named none."""
    return artifact_store(study.user_attrs.get(ATTRIBUTE), make=make)


class Bucket(Boto3ArtifactStore):
    """Optuna's store in a bucket, whose errors say what to do."""

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
    """A bucket that has answered."""
    try:
        with _s3_errors(name):
            store = Bucket(name)
        store.open_reader(NOTHING)
    except ImportError as error:
        raise InputError("S3 needs boto3. Do: pip install 'nas-relucode[s3]'") from error
    except ArtifactNotFound:
        pass
    return store


@contextmanager
def _s3_errors(bucket: str) -> Iterator[None]:
    """Turns what boto3 raises inside into one line that says what to do."""
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
            away = status >= 500 or code in BUSY
            advice = AWAY if away else ADVICE.get(code, KEYS)
        elif isinstance(cause, boto.BotoCoreError | ValueError):  # ValueError: an endpoint that is no URL
            away = isinstance(cause, boto.HTTPClientError | boto.ConnectionError | boto.IncompleteReadError)
            advice = AWAY if away else KEYS
        else:
            raise
        reason = " ".join(str(cause).split())
        kind = StoreAwayError if away else InputError
        raise kind(f"the bucket s3://{bucket} cannot be used ({reason}). {advice}") from error
