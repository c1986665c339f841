"""Witnesses of the log, over HTTP (C2SP tlog-witness)."""

from __future__ import annotations

from http import HTTPStatus

import aiohttp

from shared.ports.witnesses import Cosigning, WitnessRefused

_TIMEOUT = aiohttp.ClientTimeout(total=10)
_ANSWER_LIMIT = 64 * 1024
_SHOWN = 200


class HttpWitnesses:
    """Sends checkpoints to witnesses."""

    async def add_checkpoint(self, url: str, body: bytes) -> Cosigning:
        """Send a checkpoint; see :class:`shared.ports.witnesses.Witnesses`."""
        try:
            async with (
                aiohttp.ClientSession(timeout=_TIMEOUT) as session,
                session.post(f"{url}/add-checkpoint", data=body, allow_redirects=False) as answer,
            ):
                text = (await answer.content.read(_ANSWER_LIMIT)).decode("utf-8", "replace")
        except (aiohttp.ClientError, TimeoutError) as error:
            raise WitnessRefused(f"{url} can't be reached: {error}") from None
        if answer.status == HTTPStatus.OK:
            return Cosigning(lines=text)
        if answer.status == HTTPStatus.CONFLICT and text.strip().isascii() and text.strip().isdigit():
            return Cosigning(size=int(text.strip()))
        raise WitnessRefused(f"{url} answers {answer.status}: {text[:_SHOWN].strip()}")
