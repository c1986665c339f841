"""The log of certificates, lists and acts: sequenced, signed, read, and compared with itself.

Its head is one blob that is replaced as it was read, so no two workers can make two logs of it. Full tiles are blobs
that are created once. The newest checkpoint is a row of the ledger, in another service than the blobs: who changes one
of them by hand is found by the other.
"""
