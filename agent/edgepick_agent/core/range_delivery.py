"""What the job's download does with HTTPS: asks for ranges, counts what was good, and says what went wrong."""

from dataclasses import replace

from edgepick_agent.core import ranges as https
from edgepick_agent.core.effects import Say
from edgepick_agent.core.events import RangeDelivered
from edgepick_agent.core.fetch import Fetch
from edgepick_agent.core.ranges import Ranges
from edgepick_agent.core.turn import Job, Turn


def ask(turn: Turn) -> None:
    """Ask for the next range, if there is a source and it may be asked."""
    job = turn.agent.job
    if job is None or job.fetch is None or job.ranges is None:
        return
    ranges, fetch, asked = https.pump(job.ranges, job.fetch, turn.now, job.manifest)
    turn.set_job(ranges=ranges, fetch=fetch)
    if asked is not None:
        turn.do(asked)


def flying(turn: Turn, key: str) -> tuple[Job, Ranges, Fetch] | None:
    """Return the job whose range this is; ``None`` if it is over."""
    job = turn.agent.job
    if job is None or job.fetch is None or job.ranges is None or job.ranges.flight is None:
        return None
    return (job, job.ranges, job.fetch) if job.ranges.flight.key == key else None


def take(turn: Turn, event: RangeDelivered) -> None:
    """Take note of good chunks; wrong bytes end the range."""
    found = flying(turn, event.key)
    if found is None:
        return
    job, before, fetch = found
    ranges, after, filled, good = https.accept(before, fetch, event.chunks, turn.now)
    counted = replace(
        job,
        ranges=ranges,
        fetch=after,
        heard_at=turn.now,
        done=job.done + filled,
        fetched=job.fetched + after.fetched - fetch.fetched,
        bytes_fetched=job.bytes_fetched + after.bytes_fetched - fetch.bytes_fetched,
    )
    turn.change(job=counted)
    if not good:
        end(turn, event.key, "it has other bytes there than the manifest says")


def end(turn: Turn, key: str, problem: str | None) -> None:
    """Take note that a range is over; what did not come is left to the broker."""
    found = flying(turn, key)
    if found is None:
        return
    job, before, fetch = found
    ranges, fetch = https.ended(before, fetch, turn.now, failed=problem is not None)
    turn.set_job(ranges=ranges, fetch=fetch)
    if ranges.failures and before.flight is not None:
        rest = ranges.rests_until - turn.now
        why = problem or "it ended too early"
        turn.do(
            Say(f"{job.model}: {before.flight.url}: {why}; on over MQTT, tried again in {rest:.0f} s", serious=True)
        )


def look(turn: Turn) -> None:
    """End a range that brings nothing."""
    job = turn.agent.job
    if job is not None and job.ranges is not None and job.ranges.flight and https.is_silent(job.ranges, turn.now):
        end(turn, job.ranges.flight.key, f"nothing came for {https.SILENCE_SECONDS:.0f} s")


def tell(turn: Turn, job: Job) -> None:
    """Say how much came from where."""
    if job.ranges is not None and job.fetch is not None:
        by_https, total = job.ranges.bytes_fetched, job.fetch.bytes_fetched
        turn.do(Say(f"{job.model}: {by_https} bytes came over HTTPS, {total - by_https} over MQTT"))
