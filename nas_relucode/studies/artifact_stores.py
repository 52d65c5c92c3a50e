"""Optuna's artifact stores by their addresses: a folder, or a bucket of S3 or of what speaks its language."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from optuna.artifacts import Boto3ArtifactStore, FileSystemArtifactStore

from nas_relucode.errors import InputError


def artifact_store(address: str | None) -> Any:
    """The store at ``s3://BUCKET`` or in a folder, which is made if it is missing; None for None.

    S3's keys and endpoint come from where boto3 takes them: AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, a profile, a role.
    """
    if address is None:
        return None
    parts = urlsplit(address)
    if parts.scheme == "s3":
        if not parts.netloc or parts.path.strip("/") or parts.username:
            raise InputError(f"{address!r} names no bucket. Write s3://BUCKET; keys are read from the environment.")
        try:
            return Boto3ArtifactStore(parts.netloc)
        except ImportError as error:
            raise InputError("S3 needs boto3. Do: pip install 'nas-relucode[s3]'") from error
    if parts.scheme:
        raise InputError(f"there is no artifact store for {parts.scheme}://. Give s3://BUCKET, or a folder.")
    path = Path(address)
    path.mkdir(parents=True, exist_ok=True)
    return FileSystemArtifactStore(path)
