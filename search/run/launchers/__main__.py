"""``python -m search.run.launchers JSON``: a worker in a process of its own, see `search.run.launchers.job.command`."""

import json
import sys

from search.errors import UserError
from search.run.cli import fail
from search.run.launchers.job import Job, work

try:
    code = work(Job(**json.loads(sys.argv[1])))
except UserError as error:
    code = fail(str(error))
sys.exit(code)
