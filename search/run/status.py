"""How a study stands, in words."""

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

from search.errors import visible
from search.study.plan import find
from search.study.reader import StudyReader
from search.training.status import ENDED, Status

if TYPE_CHECKING:
    from search.run.composition import Composed, Composer

RECENT = timedelta(minutes=10)  # over which the pace is measured
ENOUGH = 60.0  # seconds before which a pace says nothing


def main(composed: "Composed", composer: "Composer") -> None:
    """``odyssey status``: trials of a study by variant and status, its workers, and what failed trials said."""
    settings = composed.settings
    study = StudyReader.open(find(settings["study"], settings["runs"]), storage=settings["storage"])
    print(status_of(study, tracebacks=settings["tracebacks"]))


def status_of(study: StudyReader, tracebacks: bool = False) -> str:
    """Trials by variant and status, workers and their leases, pace and time left, and what failed trials said.

    Nothing that stands in the study reaches the terminal as a control character.
    """
    counts = study.counts()
    peers = study.leases.peers()
    ended = sum(row[status] for row in counts.values() for status in ENDED)
    lines = [*_table(counts, study.best()), f"{ended} of {study.plan.total} planned trials have ended"]
    left = study.plan.total - ended
    recent, seconds = study.leases.pace(RECENT)
    if left and recent and peers and seconds >= ENOUGH:
        per_second = recent / seconds
        eta = timedelta(seconds=round(left / per_second))
        lines[-1] += f"; {3600 * per_second:.0f} trials/h lately, {eta} left"
    if any(row[Status.RUNNING] for row in counts.values()):
        lines.append("running: held by a worker, and in training, or, at most one a worker, ready to be")
    lines.append(f"draws are {study.plan.draws}")
    if peers:
        lines += ["", f"{'worker':32} {'running':>7} {'ended':>6} {'sign of life':>15} {'joined':>15}  engine"]
        lines += [
            f"{p.worker:32} {p.held:>7} {p.ended:>6} {_ago(p.age):>15} {_ago(p.joined):>15}  {p.device}" for p in peers
        ]
    elif left and study.archive:
        lines.append("published before it was complete; odyssey restore makes a study of it that goes on")
    elif left:
        lines.append("nobody is at work; the same odyssey sweep, or odyssey worker, goes on where it was interrupted")
    failures = study.failures()
    if failures:
        lines += ["", "failed trials:"]
    for variant, number, error, traceback in failures:
        lines.append(f"  {variant} {number}: {error}")
        if tracebacks:
            lines += [f"    {line}" for line in traceback.rstrip().splitlines()]
    return "\n".join(map(visible, lines))


def _table(counts: Mapping[str, Mapping[str, int]], best: Mapping[str, float]) -> list[str]:
    """Counts by variant and status, and the best validation score, as aligned lines."""
    columns = (*ENDED, Status.RUNNING, Status.WAITING)
    width = max(map(len, [*counts, "variant"]))
    lines = [f"{'variant':{width}} " + " ".join(f"{c:>8}" for c in (*columns, "best"))]
    for variant, row in counts.items():
        score = f"{best[variant]:.4g}" if variant in best else ""
        lines.append(f"{variant:{width}} " + " ".join(f"{cell:>8}" for cell in (*(row[c] for c in columns), score)))
    return lines


def _ago(seconds: float) -> str:
    """A time that has passed by the database's clock, which may have been set back meanwhile."""
    return f"{timedelta(seconds=round(seconds))} ago" if round(seconds) >= 0 else "clock set back"
