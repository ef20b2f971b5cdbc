"""Payloads that a plugin has stored in a form of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgtasks.errors import PayloadError

if TYPE_CHECKING:
    from pgtasks.hookdata import PayloadCodec
    from pgtasks.job import Job


def decode_payload(job: Job, codec: PayloadCodec) -> None:
    """Put in a claimed job's payload what the codec makes of it.

    Raises:
        PayloadError: the codec cannot read it.
    """
    stored = job.payload_json
    text = stored.decode("utf-8", "surrogatepass") if isinstance(stored, bytes) else stored
    try:
        decoded = codec.decode(text)
    except Exception as error:
        raise PayloadError(f"the payload codec cannot read the payload: {type(error).__name__}: {error}") from error
    # A job is frozen for whoever is given it; but it is only now that its payload can be read.
    object.__setattr__(job, "payload_json", decoded)
    vars(job).pop("payload", None)  # a plugin may have looked at it as it is stored
