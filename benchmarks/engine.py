"""The certificate engine: ratios, each taken within one run, medians of rounds in which the works take turns.

``python -m benchmarks.engine [--quick] [--json FILE] [--only PART ...]``; ``make bench-engine ARGS=...`` is the same.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import ssl
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cryptography

from benchmarks import engine_peers, engine_scaling, engine_vault
from benchmarks.engine_world import World
from benchmarks.measuring import Bar, Figure, interleaved, timed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LEAF_BAR = Bar(2.5)
BUNDLE_BAR = Bar(1.1)
OPENSSL_BAR = Bar(30, at_least=True)
PEER_BAR = Bar(1, at_least=True)


def leaf(world: World, *, quick: bool) -> list[Figure]:
    """Compare a device's key and certificate with the floor, and with every peer."""
    rounds, times = (3, 30) if quick else (15, 500)
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        engine_peers.write_authority(world, folder)
        with engine_peers.leaf_peers(world, folder, quick=quick) as (peers, missing):
            works = {"floor": (timed(world.floor), times), "ours": (timed(world.leaf), times)}
            works |= {peer.name: (peer.work, 5 if quick else peer.times) for peer in peers}
            taken = interleaved(works, rounds)
    for line in missing:
        print(f"  skipped {line}")
    microseconds = [each * 1e6 for each in taken["ours"]]
    return [
        Figure.of("device key and leaf, P-256, CA in memory", microseconds, unit="us"),
        Figure.ratio("device key and leaf / key and one raw signature", taken["ours"], taken["floor"], bar=LEAF_BAR),
        *(
            Figure.ratio(f"leaves a second, ours / {peer.name}", taken[peer.name], taken["ours"], bar=PEER_BAR)
            for peer in peers
        ),
    ]


def bundle(world: World, *, quick: bool) -> list[Figure]:
    """Compare all that a device gets with the PFX alone, and with the ``openssl`` command line."""
    rounds, times = (3, 10) if quick else (15, 100)
    bundle_work = (timed(world.bundle), times)
    taken = interleaved({"bundle": bundle_work, "pfx": (world.fresh_pfx_alone, times)}, rounds)
    figures = [
        Figure.of("whole bundle: key, leaf, PEM and PFX", [each * 1e6 for each in taken["bundle"]], unit="us"),
        Figure.ratio("whole bundle / the PFX call alone", taken["bundle"], taken["pfx"], bar=BUNDLE_BAR),
    ]
    if shutil.which("openssl") is None:
        print("  skipped openssl: not on this machine")
        return figures
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        engine_peers.write_authority(world, folder)
        program = (timed(lambda: engine_peers.openssl_bundle(folder)), 1 if quick else 5)
        taken = interleaved({"bundle": bundle_work, "openssl": program}, rounds)
    title = "openssl command line (key, CSR, sign, PFX) / whole bundle"
    return [*figures, Figure.ratio(title, taken["openssl"], taken["bundle"], bar=OPENSSL_BAR)]


def processes(_: World, *, quick: bool) -> list[Figure]:
    """Compare two worker processes with one."""
    return engine_scaling.processes(quick=quick)


def revocation_lists(_: World, *, quick: bool) -> list[Figure]:
    """Build lists of growing length."""
    return engine_scaling.revocation_lists(quick=quick)


PARTS: dict[str, Callable[..., list[Figure]]] = {
    "leaf": leaf,
    "bundle": bundle,
    "processes": processes,
    "threads": engine_scaling.threads,
    "crl": revocation_lists,
    "growth": engine_scaling.growth,
    "vault": engine_vault.custody,
}


def machine() -> dict[str, Any]:
    """Say what it was measured on, and how busy that was."""
    return {
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        "python": platform.python_version(),
        "cryptography": cryptography.__version__,
        "openssl of python": ssl.OPENSSL_VERSION,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write the figures; gives 1 when a bar was missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few seconds: shows that it runs, not how fast")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    parser.add_argument("--only", nargs="+", choices=[*PARTS], default=[*PARTS], metavar="PART", help=", ".join(PARTS))
    chosen = parser.parse_args(arguments)
    before = machine()
    print(f"{before['cores']} cores, load {before['load'][0]:.1f}, Python {before['python']}, "
          f"cryptography {before['cryptography']}")  # fmt: skip
    world, parts = World.made(), {}
    for name in chosen.only:
        parts[name] = PARTS[name](world, quick=chosen.quick)
        print(f"{name}\n  " + "\n  ".join(map(str, parts[name])), flush=True)
    figures = {name: [figure.documented() for figure in each] for name, each in parts.items()}
    if chosen.json:
        report = {"machine": before, "load_after": os.getloadavg(), "quick": chosen.quick, "figures": figures}
        chosen.json.write_text(json.dumps(report, indent=2) + "\n")
    missed = any(figure.verdict == "MISSED" for each in parts.values() for figure in each)
    return 1 if missed and not chosen.quick else 0


if __name__ == "__main__":
    sys.exit(main())
