"""``python -m search.launchers JSON``: a worker in a process of its own, see `search.launchers.job.command`."""

import json
import sys

from search.cli import fail
from search.errors import UserError
from search.launchers.job import Job, work

try:
    code = work(Job(**json.loads(sys.argv[1])))
except UserError as error:
    code = fail(str(error))
sys.exit(code)
