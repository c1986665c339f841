"""Has the app's auditor look at a running stack."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from devstack.stack import REPOSITORY

SETTINGS, ENDPOINTS = "local.settings.json", "endpoints.json"


def audited(state_dir: Path) -> subprocess.CompletedProcess[str]:
    """Run :mod:`shared.audit` on the stack whose state is in a folder.

    Raises:
        FileNotFoundError: no stack runs there.
    """
    endpoints = json.loads((state_dir / ENDPOINTS).read_text(encoding="utf-8"))
    settings = json.loads((state_dir / SETTINGS).read_text(encoding="utf-8"))["Values"]
    platform = {
        "IDENTITY_ENDPOINT": endpoints["identityEndpoint"],
        "IDENTITY_HEADER": endpoints["identityHeader"],
        "SSL_CERT_FILE": endpoints["tlsCaFile"],
        "REQUESTS_CA_BUNDLE": endpoints["tlsCaFile"],
    }
    return subprocess.run(
        [sys.executable, "-m", "shared.audit"],
        cwd=REPOSITORY,
        env={**os.environ, **settings, **platform},
        capture_output=True,
        text=True,
        check=False,
    )


def main(arguments: list[str]) -> int:
    """``python -m devstack audit [STATE_DIR]``: print what is wrong in a running stack; 1 then."""
    state_dir = Path(arguments[0]) if arguments else REPOSITORY / ".devstack"
    try:
        done = audited(state_dir)
    except FileNotFoundError as missing:
        print(f"{missing.filename} does not exist: start a stack with `make run`, or name its folder", file=sys.stderr)
        return 2
    print(done.stdout, end="")
    print(done.stderr, end="", file=sys.stderr)
    return done.returncode
