"""``python -m search`` is ``odyssey``."""

import os
import sys
from pathlib import Path

# Python puts the current folder first, in which files of others may have the names of libraries.
if sys.path and sys.path[0] in ("", os.getcwd()):
    del sys.path[0]
    sys.path.append(str(Path(__file__).parents[1]))

from search.run.cli import main

sys.exit(main())
