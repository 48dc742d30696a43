"""``odyssey`` with frequent checkpoints, to be killed: ``python -m tests.killable sweep ...``"""

import sys

from search.run import cli
from search.study import sweep

if __name__ == "__main__":
    sweep.CHECKPOINT_INTERVAL = 0.0
    sys.exit(cli.main())
