"""Payloads that a plugin has stored in a form of its own."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING

from pgtasks.errors import PayloadError

if TYPE_CHECKING:
    from pgtasks.hookdata import PayloadCodec
    from pgtasks.job import Job


def decoded(job: Job, codec: PayloadCodec) -> Job:
    """Return a claimed job with the payload that the codec makes of the stored one: a copy, since plugins have the job.

    Raises:
        PayloadError: the codec cannot read it.
    """
    stored = job.payload_json
    text = stored.decode("utf-8", "surrogatepass") if isinstance(stored, bytes) else stored
    try:
        payload = codec.decode(text)
    except Exception as error:
        raise PayloadError(f"the payload codec cannot read the payload: {type(error).__name__}: {error}") from error
    readable = copy(job)
    vars(readable).pop("payload", None)  # a plugin may have looked at it as it is stored
    vars(readable)["payload_json"] = payload
    return readable
