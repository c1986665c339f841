"""One module per use case: the only place where steps are put in order.

Every workflow can be killed at any point and run again: it finds what was done and goes on from there.
"""
