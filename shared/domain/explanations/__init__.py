"""Why a device is as it is: pure, from what was seen of it.

:mod:`~shared.domain.explanations.causes` is the table of causes. The first one that applies is the cause.
"""
