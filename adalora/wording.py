"""How numbers are written for people: two significant digits, no exponents, a unit that fits."""

FLOPS = (("EFLOP", 1e18), ("PFLOP", 1e15), ("TFLOP", 1e12), ("GFLOP", 1e9))
BYTES = (("TiB", 2.0**40), ("GiB", 2.0**30), ("MiB", 2.0**20))


def amount(value: float, digits: int = 2) -> str:
    """A measured or estimated number, with so many significant digits: 0.78, 3.1, 110, 2,000."""
    return f"{float(f'{value:.{digits}g}'):,.12g}"


def counted(count: int, noun: str) -> str:
    """A count with its noun: 1 step, 6,000 steps."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def operations(flops: float) -> str:
    """Floating-point operations: 780 GFLOP, 3.1 PFLOP."""
    return scaled(flops, FLOPS)


def memory(size: float) -> str:
    """Bytes: 650 MiB, 20 GiB."""
    return scaled(size, BYTES)


def scaled(value: float, units: tuple[tuple[str, float], ...]) -> str:
    """A value in the largest unit of which it is at least one, else in the smallest."""
    name, size = next(((name, size) for name, size in units if value >= size), units[-1])
    return f"{amount(value / size)} {name}"


def duration(seconds: float) -> str:
    """A duration: 45 s, 12 min, 3.3 hours, 12 days."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    hours = seconds / 3600
    return f"{amount(hours)} hours" if hours < 48 else f"{amount(hours / 24)} days"
