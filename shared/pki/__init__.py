"""The certificate engine: no Azure, no I/O, and no clock but the time that is passed in.

Where a rule of RFC 5280 stands:

- what a certificate contains, by kind: ``profiles``; its subject: ``subjects``; its extensions: ``extensions``
- how one is checked and signed: ``issuance``, ``signing_keys``; by whom: ``issuers``; within which limits:
  ``issuer_limits``
- what a certificate must be by itself: ``certificate_rules``; above each other: ``path_rules``, ``name_constraints``,
  ``policies``; as a whole, in words: ``chains``; out of whatever a device sends: ``paths``
- lists and answers about revoked certificates: ``revocation_lists``, ``list_checks``, ``ocsp``
- what comes from outside: ``requests`` (PKCS#10), ``authority_files`` (a CA's files), ``readable`` and ``damage``
  (why something can't be read)
- what goes out: ``bundles``
"""
