"""CA keys in a vault: what the round trip costs, and how many certificates each custody mode gives."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from azure.identity import ManagedIdentityCredential
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from benchmarks.engine_world import issuing_ca
from benchmarks.measuring import Figure, interleaved, timed
from emulator.tests.running import emulator_process, own_address
from shared.adapters.vault import Ownership, VaultKeys
from shared.pki.signing_keys import remote_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.engine_world import World
    from benchmarks.measuring import Work

CALLERS = 8
"""Threads that wait for the vault at once, in the second figure."""


@contextlib.contextmanager
def emulated_vault() -> Iterator[VaultKeys]:
    """Start the emulator, and let the app's own adapter talk to its vault."""
    before = dict(os.environ)
    with (
        tempfile.TemporaryDirectory(prefix="bench-vault-") as folder,
        emulator_process(Path(folder) / "state", "--address", own_address()) as (_, endpoints),
    ):
        os.environ |= {
            "IDENTITY_ENDPOINT": endpoints["identityEndpoint"],
            "IDENTITY_HEADER": endpoints["identityHeader"],
            "REQUESTS_CA_BUNDLE": endpoints["tlsCaFile"],
        }
        try:
            keys = VaultKeys(
                endpoints["keyVaultUrl"], ManagedIdentityCredential(), Ownership("bench"), verify_challenge=False
            )
            yield keys
            asyncio.run(keys.close())
        finally:
            os.environ.clear()
            os.environ.update(before)


def custody(world: World, *, quick: bool) -> list[Figure]:
    """Issue from a CA whose key is in the vault and from one whose key is in memory, in turns."""
    rounds, times = (2, 5) if quick else (7, 100)
    with emulated_vault() as keys, ThreadPoolExecutor(CALLERS) as pool:
        key_id, public_key = asyncio.run(keys.get_or_create("bench", "EC-P256"))
        far = remote_key(public_key, partial(keys.sign_digest, key_id))
        distant = issuing_ca("line-2", world.root, world.now, far)
        digest = b"\0" * 32
        local = world.issuing.signing_key
        prehashed = ec.ECDSA(utils.Prehashed(hashes.SHA256()))
        issue = timed(lambda: world.issue_from(distant))
        taken = interleaved(
            {
                "trip": (timed(lambda: keys.sign_digest(key_id, "ES256", digest)), times),
                "raw": (timed(lambda: local.sign(digest, prehashed)), times * 10),  # type: ignore[call-arg, arg-type]
                "vault": (issue, times),
                "callers": (_by_callers(pool, issue), times),
                "memory": (timed(lambda: world.issue_from(world.issuing)), times * 10),
            },
            rounds,
        )
    rates = {name: [1 / seconds for seconds in each] for name, each in taken.items()}
    return [
        Figure.of(
            "signature of a digest in the emulated vault: the round trip", _milliseconds(taken["trip"]), unit="ms"
        ),
        Figure.ratio("round trip / signature here", taken["trip"], taken["raw"]),
        Figure.of("certificates from a CA whose key is in the vault", rates["vault"], unit="/s"),
        Figure.of(f"certificates from the same CA, {CALLERS} callers at once", rates["callers"], unit="/s"),
        Figure.of("certificates from a CA whose key is in memory", rates["memory"], unit="/s"),
        Figure.ratio("CA in memory / CA in the vault", rates["memory"], rates["vault"]),
        Figure.ratio(f"CA in memory / CA in the vault with {CALLERS} callers", rates["memory"], rates["callers"]),
    ]


def _by_callers(pool: ThreadPoolExecutor, issue: Work) -> Work:
    def work(times: int) -> float:
        return timed(lambda: list(pool.map(issue, [max(1, times // CALLERS)] * CALLERS)))(1) / (
            max(1, times // CALLERS) * CALLERS
        )

    return work


def _milliseconds(seconds: list[float]) -> list[float]:
    return [each * 1000 for each in seconds]
