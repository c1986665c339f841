"""A small local Functions host around Microsoft's own worker library, for machines without Core Tools, and for CI.

Indexing, binding conversion and invocation are Microsoft's (azure-functions-runtime); HTTP, queue and timer listeners
are here, with the semantics of the real host.
"""
