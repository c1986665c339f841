"""Base64 in the path of an OCSP request (RFC 6960 appendix A.1), as clients write it."""

from __future__ import annotations

import pytest

from triggers.http.relying_parties import base64_in_path


@pytest.mark.parametrize(
    ("written", "base64"),
    [
        ("MAH+", "MAH+"),
        ("MAH%2B", "MAH+"),
        ("MAH ", "MAH+"),
        ("MAH-", "MAH+"),
        ("MAE", "MAE="),
        ("MAE%3D", "MAE="),
        # the last character of a request is a slash, once in 64
        ("MAH/", "MAH/"),
        ("MAH%2F", "MAH/"),
        ("MAH%252F", "MAH/"),
        ("MAH_", "MAH/"),
        ("MP//MAH/", "MP//MAH/"),
        # slashes that are of the path
        ("/MAH/", "MAH/"),
        ("//MAE=", "MAE="),
        ("MAE=/", "MAE="),
        ("MAHA/", "MAHA"),
    ],
)
def test_base64_is_read_out_of_a_path(written: str, base64: str) -> None:
    """Escaped once or twice, in either alphabet, with or without padding; a slash at the end is part of it."""
    assert base64_in_path(written) == base64
