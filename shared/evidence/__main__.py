"""``python -m shared.evidence verify bundle.pem --log-key FILE``."""

import sys

from shared.evidence.verify import main

sys.exit(main())
