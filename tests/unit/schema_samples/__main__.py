"""Writes the samples of what is not released yet anew; with ``--release``, notes that all are released."""

from __future__ import annotations

import sys

from tests.unit.schema_samples import release, write

if __name__ == "__main__":
    refused = write()
    sys.stdout.write("".join(f"{each}\n" for each in refused))
    if not refused and "--release" in sys.argv[1:]:
        release()
    sys.exit(1 if refused else 0)
