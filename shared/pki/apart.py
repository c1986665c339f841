"""Opens a stranger's file in a process of its own, which is ended when it takes too long: so it holds nobody up.

What goes there and comes back is JSON over pipes: nothing is written to a disk, and nothing on a command line.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from base64 import b64decode, b64encode
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_der_private_key

from shared.errors import Deferred
from shared.pki.opened_files import CanNotOpen, Opened, open_key, open_pfx
from shared.pki.readable import load_certificate

if TYPE_CHECKING:
    from collections.abc import Mapping

SECONDS = 5.0
"""Of the processor, for a file: it is not refused because others compute on the same machine."""

_PATIENCE = 60.0
"""Seconds on the clock, after which the machine is too busy to tell."""

_MEMORY = 1 << 30


def pfx_opened_apart(pfx: bytes, password: bytes | None, *, seconds: float = SECONDS) -> Opened:
    """Do as :func:`open_pfx`, and wait for it: call it in a thread."""
    return _opened({"pfx": _text(pfx), "password": _text(password)}, seconds)


def key_opened_apart(block: bytes, content: bytes, password: bytes | None, *, seconds: float = SECONDS) -> Opened:
    """Do as :func:`open_key`, and wait for it: call it in a thread."""
    return _opened({"block": _text(block), "content": _text(content), "password": _text(password)}, seconds)


def _opened(asked: Mapping[str, str | None], seconds: float) -> Opened:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", f"from shared.pki.apart import main; main({seconds!r})"]
    try:
        done = subprocess.run(  # noqa: S603 - this interpreter, and no word of the file
            command,
            input=json.dumps(asked),
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        raise Deferred("this machine is too busy to open a file", retry_after=timedelta(seconds=30)) from None
    if done.returncode == -signal.SIGPROF:
        raise CanNotOpen(
            f"to open it takes more than {seconds:g} seconds: it asks for too many rounds of key derivation; write it "
            "anew with fewer"
        )
    if done.returncode:
        raise CanNotOpen("it can't be opened: it is damaged, or asks for too much memory")
    answer = json.loads(done.stdout)
    if "refused" in answer:
        raise CanNotOpen(answer["refused"])
    return Opened(
        tuple(load_der_private_key(b64decode(each), None) for each in answer["keys"]),
        tuple(load_certificate(b64decode(each)) for each in answer["certificates"]),
    )


def _text(content: bytes | None) -> str | None:
    return None if content is None else b64encode(content).decode("ascii")


def main(seconds: float) -> None:
    """Be the other process, which the kernel ends by SIGPROF when it has computed for ``seconds`` (setitimer(2))."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # which would hold the key
    asked: dict[str, Any] = {
        name: None if text is None else b64decode(text) for name, text in json.load(sys.stdin).items()
    }
    try:
        opened = open_pfx(**asked) if "pfx" in asked else open_key(**asked)
    except CanNotOpen as refusal:
        answer: dict[str, Any] = {"refused": str(refusal)}
    else:
        answer = {
            "keys": [_text(_pkcs8(each)) for each in opened.keys],
            "certificates": [_text(each.public_bytes(Encoding.DER)) for each in opened.certificates],
        }
    signal.setitimer(signal.ITIMER_PROF, 0)  # what is left is the interpreter's own end
    json.dump(answer, sys.stdout)


def _pkcs8(key: Any) -> bytes:
    content: bytes = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return content
