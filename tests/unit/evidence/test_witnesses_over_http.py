"""Witnesses over HTTP, as C2SP tlog-witness has it: signatures, another size, or a refusal in words."""

from __future__ import annotations

import http.server
import threading
from typing import TYPE_CHECKING

import pytest

from shared.adapters.witnesses import HttpWitnesses
from shared.ports.witnesses import Cosigning, WitnessRefused

if TYPE_CHECKING:
    from collections.abc import Iterator

LINE = "\u2014 witness.example/w1 AAAAAAAA\n"
ANSWERS = {
    b"old 0\n\nsigned": (200, LINE.encode()),
    b"old 1\n\nother": (409, b"7\n"),
    b"old 2\n\nconflict": (409, b"what?"),
    b"old 3\n\nunknown": (404, b"unknown origin\n"),
    b"old 4\n\nelsewhere": (302, b""),
}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            status, content = ANSWERS[self.rfile.read(int(self.headers["Content-Length"]))]
            self.send_response(status if self.path == "/w1/add-checkpoint" else 500)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/w1"
        server.shutdown()
        thread.join()


async def test_signatures_and_another_size_are_taken(url: str) -> None:
    witnesses = HttpWitnesses()
    assert await witnesses.add_checkpoint(url, b"old 0\n\nsigned") == Cosigning(lines=LINE)
    assert await witnesses.add_checkpoint(url, b"old 1\n\nother") == Cosigning(size=7)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"old 2\n\nconflict", "/w1 answers 409: what\\?$"),
        (b"old 3\n\nunknown", "/w1 answers 404: unknown origin$"),
        (b"old 4\n\nelsewhere", "/w1 answers 302: $"),
    ],
)
async def test_a_refusal_is_told_in_the_witness_s_words(url: str, body: bytes, told: str) -> None:
    with pytest.raises(WitnessRefused, match=told):
        await HttpWitnesses().add_checkpoint(url, body)


async def test_a_witness_that_is_not_there_is_told_by_its_address() -> None:
    with pytest.raises(WitnessRefused, match=r"^http://127\.0\.0\.1:1 can't be reached: "):
        await HttpWitnesses().add_checkpoint("http://127.0.0.1:1", b"")
