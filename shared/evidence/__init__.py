"""The log of certificates, lists and acts: a Merkle tree in tiles, its checkpoints, and what proves an entry."""
