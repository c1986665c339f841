"""Values that no id, number or token is, for every place of a request that takes one."""

from __future__ import annotations

from functools import cache

IDS = (
    "..",
    ".",
    "%",
    "%25",
    "a%2Fb",
    "a%2fb.",
    "..%2F..%2Fetc%2Fpasswd",
    "a/b",
    "/",
    "a\\b",
    "a b",
    " ",
    "a#b",
    "a?b",
    "a&b=c",
    "a+b",
    "'",
    "' or 1 eq 1 or '",
    '"',
    "a|b",
    "*",
    "{id}",
    "$(id)",
    "${jndi:ldap://x}",
    "<script>",
    "a\x00",
    "\x00",
    "a\nb",
    "a\r\nSet-Cookie: x=y",
    "\t",
    "\x1b[31m",
    "\x7f",
    "\x85",
    "\u2028",
    "\u202egnp",
    "\u212a",  # the Kelvin sign, whose lower case is an ASCII k
    "ä",
    "日本",
    "\U0001f512",
    "\ufeff",
    "\ud800",
    "a" * 300,
    "9" * 5000,
    "%2e" * 2000,
    "a" * 7000,
)
"""Not an id of any kind: of a device, group, CA, certificate, order, request or rejection."""

NUMBERS = (
    "9" * 5000,
    "0",
    "-1",
    "+1",
    "1.5",
    "1e3",
    "0x10",
    "1_0",
    "\u0661",
    "\u00b2",
    " ",
    "NaN",
    "1,2",
    "\x00",
    "1001",
)
"""Not a size of page."""

CONTINUATIONS = ("\x00", "\x1b[2J", "a\r\nb", "ä", "\ud800", "a" * 5000, "\u2028")
"""Not a continuation of any service."""


@cache  # each is asked for once for every place that takes it, and some are long
def escaped(text: str) -> tuple[str, ...]:
    """Give a value as it can stand in a request's target: escaped, escaped twice, and as it is where that can be."""
    octets = text.encode(errors="surrogatepass")
    once = "".join(f"%{octet:02X}" for octet in octets)
    as_it_is = text.isascii() and text.isprintable() and not set(text) & set(" #?")
    return (once, once.replace("%", "%25"), *((text,) if as_it_is else ()))
