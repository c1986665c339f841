"""Queue messages: when they were made, and what they say."""

from __future__ import annotations

import base64
from contextlib import suppress
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.messages import Message, Queue, read_message
from shared.errors import Rejected
from shared.reading.text import text_of
from shared.workflows.intake.rejections import ReceivedMessage
from tests.pki.hierarchy import NOW
from triggers import outcomes
from triggers.bodies import decoded


@pytest.mark.parametrize(
    ("said", "asked"),
    [(None, 0), (-5.25, -5.25), (0.75, 0.75), (1, 1), (90, 1)],
    ids=["silent", "before", "within the second", "at its end", "a clock ahead"],
)
def test_a_request_is_as_old_as_its_sender_says_and_no_younger_than_its_message(
    said: float | None, asked: float
) -> None:
    """The queue knows the second; a sender may say it finer, and does not get ahead of others by a wrong clock."""
    received = ReceivedMessage(queue=Queue.ENROLLMENT_GROUP_REQUESTS, message_id="m", body=b"", received=NOW)
    message = Message({}, None, None if said is None else NOW + timedelta(seconds=said))
    assert outcomes.asked_at(message, received) == NOW + timedelta(seconds=asked)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"eyJhIjoxfQ==", b'{"a":1}'),
        (b'{"a":1}', b'{"a":1}'),
        (b"null", b"null"),
        (b"1234", b"1234"),
        (b"/w==", b"\xff"),
        (b"eyJh\nIjox\r\nfQ==\n", b'{"a":1}'),
        (b"\xef\xbb\xbfeyJhIjoxfQ==", b'{"a":1}'),
        (b"\xef\xbb\xbf77u/eyJhIjoxfQ==", b'\xef\xbb\xbf{"a":1}'),
        (b"some words here ", b"some words here "),
    ],
)
def test_a_message_is_taken_out_of_base64_unless_it_is_json_already(body: bytes, text: bytes) -> None:
    """Words and numbers of JSON could be base64 as well, and are not."""
    assert decoded(body) == text


@given(st.binary() | st.text().map(str.encode) | st.binary().map(base64.encodebytes))
def test_whatever_octets_a_queue_holds_are_read_or_rejected(content: bytes) -> None:
    """From the queue's text to its data nothing but a rejection is raised."""
    with suppress(Rejected):
        read_message(text_of(decoded(content)))
