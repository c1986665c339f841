"""Text out of octets: UTF-8, with or without a byte order mark, or UTF-16 with one."""

from __future__ import annotations

import codecs

from shared.errors import Rejected

BYTE_ORDER_MARK = "\ufeff"
_UTF_32 = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def text_of(content: bytes, what: str = "it", *, field: str = "") -> str:
    """Read a text without its byte order mark.

    Args:
        content: UTF-8, or UTF-16 that begins with its mark, as .NET, PowerShell and Excel write it.
        what: names the text, for messages.
        field: path of the text in the request.

    Raises:
        Rejected: it is in another encoding; the message names the octet and its line.
    """
    if content.startswith(_UTF_32):  # before UTF-16, whose mark begins the same
        raise Rejected.because(f"{what} is in UTF-32; send it in UTF-8", field=field)
    encoding = "utf-16" if content.startswith(_UTF_16) else "utf-8"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise Rejected.because(_fault(content, error, what), field=field) from None
    if encoding == "utf-8" and "\0" in text[:4]:
        raise Rejected.because(
            f"{what} has NULs between its characters, as UTF-16 has; send it in UTF-8, or in UTF-16 with a byte order "
            "mark",
            field=field,
        )
    return without_mark(text)


def without_mark(text: str) -> str:
    """Give a text without the byte order mark that it may begin with."""
    return text.removeprefix(BYTE_ORDER_MARK)


def _fault(content: bytes, error: UnicodeDecodeError, what: str) -> str:
    if error.encoding.startswith("utf-16"):
        return f"{what} begins with the byte order mark of UTF-16 and is not UTF-16: {error.reason}"
    line = content.count(b"\n", 0, error.start) + 1
    return (
        f"{what} is not UTF-8: byte 0x{content[error.start]:02X} at position {error.start}, in line {line}, begins no "
        "character; text in Windows-1252 or Latin-1 must be saved as UTF-8"
    )
