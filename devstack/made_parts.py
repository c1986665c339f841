"""Parts of pages in docs/ that are made from code: each stands between a line of its own and one that ends it."""

from __future__ import annotations

END = "<!-- End of what is made. -->\n"


def with_part(page: str, begin: str, made: str) -> str:
    """Put a part into a page, in the place of the one before.

    Args:
        page: the whole of it.
        begin: the line before the part.
        made: the part.
    """
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(END)
    return before + begin + made + END + after
