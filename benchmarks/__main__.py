"""``python -m benchmarks [DEVICES]``."""

from __future__ import annotations

import sys

from benchmarks import main_job

if __name__ == "__main__":
    main_job.main(*(int(argument) for argument in sys.argv[1:2]))
