"""Numbers as the page writes them: scores to four digits, counts in groups of three, times in two units."""

MISSING = "–"
# A narrow space that does not break, as the SI brochure wants digits to be grouped.
THIN_SPACE = "\u202f"


def score(value: float | None) -> str:
    """A score or a share, 0 to 1, such as 0.8842."""
    return MISSING if value is None else f"{value:.4f}"


def threshold(value: float | None) -> str:
    """A threshold, which is taken to the thousandth."""
    return MISSING if value is None else f"{value:.3f}"


def threshold_range(low: float | None, high: float | None) -> str:
    """The range in which a threshold is stable."""
    return MISSING if low is None or high is None else f"{low:.3f} to {high:.3f}"


def number(value: float | None) -> str:
    """Any other number, four digits of it."""
    return MISSING if value is None else f"{value:.4g}"


def count(value: int | None) -> str:
    """A number of things, such as 1 234 567."""
    return MISSING if value is None else f"{value:,}".replace(",", THIN_SPACE)


def duration(seconds: float) -> str:
    """A time, such as 2 h 13 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{whole // 60} min {whole % 60} s" if whole < 600 else f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"
