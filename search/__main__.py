"""``python -m search`` is ``odyssey``."""

import sys

from search.cli import main

sys.exit(main())
