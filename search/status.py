"""How a study stands, in words."""

from datetime import timedelta

from search.progress import table
from search.study import Study

RECENT = timedelta(minutes=10)  # over which the pace is measured


def status_of(study: Study, tracebacks: bool = False) -> str:
    """Trials by variant and status, workers and their leases, pace and time left, and what failed trials said."""
    counts = study.counts()
    peers = study.leases.peers()
    ended = sum(row[status] for row in counts.values() for status in ("finished", "diverged", "failed"))
    lines = [table(counts), f"{ended} of {study.plan.total} planned trials have ended"]
    lines.append(f"draws are {study.plan.draws}")
    left = study.plan.total - ended
    recent, seconds = study.leases.pace(RECENT)
    if left and recent and peers:
        per_second = recent / seconds
        eta = timedelta(seconds=round(left / per_second))
        lines[-2] += f"; {3600 * per_second:.0f} trials/h lately, {eta} left"
    if peers:
        lines += ["", f"{'worker':32} {'trials':>6} {'ended':>6} {'sign of life':>13} {'joined':>12}  engine"]
        lines += [
            f"{p.worker:32} {p.held:>6} {p.ended:>6} {f'{p.age:.0f} s ago':>13} {_ago(p.joined):>12}  {p.device}"
            for p in peers
        ]
    elif left:
        lines.append("nobody is at work; the same odyssey sweep, or odyssey worker, goes on where it was interrupted")
    failures = study.failures()
    if failures:
        lines += ["", "failed trials:"]
    for variant, number, error, traceback in failures:
        lines.append(f"  {variant} {number}: {error}")
        if tracebacks:
            lines += [f"    {line}" for line in traceback.rstrip().splitlines()]
    return "\n".join(lines)


def _ago(seconds: float) -> str:
    return f"{timedelta(seconds=round(seconds))} ago"
