"""``python -m shared.evidence verify | mirror | consistency``: docs/evidence.md says what each takes."""

import sys

from shared.evidence import mirror, verify

given = sys.argv[1:]
sys.exit(mirror.main(given) if given[:1] in (["mirror"], ["consistency"]) else verify.main(given))
