"""Figures as a person reads them: three significant digits and a unit, a dash for what is not known."""

TIMES = "\N{MULTIPLICATION SIGN}"
UNKNOWN = "\N{EN DASH}"


def size_text(count: int | None) -> str:
    """Return bytes with a decimal unit."""
    if count is None:
        return UNKNOWN
    if count < 1000:
        return f"{count} B"
    for unit in ("kB", "MB"):
        count_in_unit = count / {"kB": 1e3, "MB": 1e6}[unit]
        if count_in_unit < 999.5:
            return f"{_three(count_in_unit)} {unit}"
    return f"{_three(count / 1e9)} GB"


def latency_text(nanoseconds: int | None) -> str:
    """Return nanoseconds as microseconds or milliseconds."""
    if nanoseconds is None:
        return UNKNOWN
    if nanoseconds < 999_500:
        return f"{_three(nanoseconds / 1e3)} µs"
    return f"{_three(nanoseconds / 1e6)} ms"


def energy_text(microjoules: float | None) -> str:
    """Return microjoules as such or as millijoules."""
    if microjoules is None:
        return UNKNOWN
    return f"{_three(microjoules)} µJ" if microjoules < 999.5 else f"{_three(microjoules / 1e3)} mJ"


def share_text(share: float | None) -> str:
    """Return a share as a percentage with one digit."""
    return UNKNOWN if share is None else f"{share * 100:.1f} %"


def drop_text(drop: float | None) -> str:
    """Return a loss of accuracy in points; a gain has a plus sign."""
    if drop is None:
        return UNKNOWN
    points = -drop * 100
    return "±0.0 pt" if abs(points) < 0.05 else f"{points:+.1f} pt".replace("-", "\N{MINUS SIGN}")


def times_text(ratio: float) -> str:
    """Return a ratio ("3.0" and a multiplication sign)."""
    return f"{ratio:.0f}" + TIMES if ratio >= 9.95 else f"{ratio:.1f}" + TIMES


def pace_text(ratio: float) -> str:
    """Return a speed against another as people say it ("1.9 times faster", "as fast", "1.2 times slower")."""
    if max(ratio, 1 / ratio) < 1.05:
        return "as fast"
    return f"{times_text(ratio)} faster" if ratio >= 1 else f"{times_text(1 / ratio)} slower"


def seconds_text(seconds: float | None) -> str:
    """Return seconds, with one digit below a minute."""
    if seconds is None:
        return UNKNOWN
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


def _three(value: float) -> str:
    """Return a value with three significant digits, without an exponent."""
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"
