"""Charts as SVG text, without scripts; the page's style sheet has the colours.

Runs differ in colour and in dashes or marks, never in colour alone. A point has a title, which the
browser shows when it is pointed at.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

Point = tuple[float, float]
Figure = tuple[str, str, str]  # title, drawing (SVG), table of its numbers
WIDTH, HEIGHT = 360, 220  # units of the view box: about pixels on a phone
RIGHT, TOP, BOTTOM = 20, 22, 34  # margins around the plot; the left one depends on its labels
DIGIT = 7  # the most that a digit of a label takes
MAX_POINTS = 120  # of a line; more would make the page of a long run megabytes large


@dataclass(frozen=True)
class Series:
    """One run's points; `number` chooses its colour, dashes and mark."""

    name: str
    number: int
    points: Sequence[Point]
    texts: Sequence[str] = ()  # what each point stands for, added to its title

    def titles(self) -> list[str]:
        """Return the title of each point."""
        numbers = [f"{self.name}: {short(b)} at {short(a)}" for a, b in self.points]
        if not self.texts:
            return numbers
        return [f"{n}: {text}" for n, text in zip(numbers, self.texts, strict=True)]


@dataclass(frozen=True)
class Axis:
    """A linear map from a range of values to a range of the drawing."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return a value's place in the drawing."""
        share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Return about six round numbers inside the range."""
        step = nice_step((self.high - self.low) / 6)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [number * step for number in range(first, last + 1)]

    def labelled_ticks(self) -> list[tuple[float, str]]:
        """Return the ticks with their labels, which have as many digits as tell them apart."""
        ticks = self.ticks()
        for digits in range(3, 9):
            labels = [short(tick, digits) for tick in ticks]
            if len(set(labels)) == len(ticks):
                break
        return list(zip(ticks, labels, strict=True))


def nice_step(step: float) -> float:
    """Round up to 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= step * (1 - 1e-9))


def axis(values: Sequence[float], start: float, end: float) -> Axis:
    """Return an axis around the values, also if they are all equal."""
    low, high = min(values), max(values)
    room = (high - low) * 0.04 or abs(high) * 0.1 or 1.0
    return Axis(low - room, high + room, start, end)


def short(value: float, digits: int = 4) -> str:
    """Write a number for people: 12000 -> 12k, 0.25, 0.00011 -> 1.1e-4."""
    if value and abs(value) < 1e-3:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        return f"{float(mantissa):.{digits}g}e{int(exponent)}"
    if abs(value) >= 1e4:
        return f"{value / 1e3:g}k"
    return f"{value:.{max(digits, 4)}g}"


def mean_points(points: Sequence[Point], most: int = MAX_POINTS) -> list[Point]:
    """Return at most so many points, each the mean of its neighbours."""
    size = max(1, math.ceil(len(points) / most))
    parts = [points[i : i + size] for i in range(0, len(points), size)]
    return [(sum(x for x, _ in p) / len(p), sum(y for _, y in p) / len(p)) for p in parts]


def thinned(points: Sequence[Point]) -> list[Point]:
    """Return at most MAX_POINTS of the points and the last one: a rate's corners stay sharp."""
    size = max(1, math.ceil(len(points) / MAX_POINTS))
    return [*points[:-1:size], *points[-1:]]


def drawing(title: str, x: Axis, y: Axis, x_name: str, y_name: str, inside: str) -> str:
    """Return a whole chart: grid, ticks, names of the axes, and the marks inside."""
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>"
    ]
    for tick, label in y.labelled_ticks():
        at = y(tick)
        parts.append(f'<path class="grid" d="M{x.start} {at:.1f}H{x.end}"/>')
        parts.append(f'<text x="{x.start - 5}" y="{at + 3.5:.1f}" class="end">{label}</text>')
    for tick, label in x.labelled_ticks():
        at = f'x="{x(tick):.1f}" y="{HEIGHT - BOTTOM + 14}"'
        parts.append(f'<text {at} class="mid">{label}</text>')
    middle = (x.start + x.end) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 4}" class="mid">{escape(x_name)}</text>')
    parts.append(f'<text x="2" y="{TOP - 10}">{escape(y_name)}</text>' if y_name else "")
    return "".join([*parts, inside, "</svg>"])


def line_chart(title: str, series: Sequence[Series]) -> str:
    """Draw a line through each series over the steps; up to 40 points get marks.

    Nothing without any point.
    """
    points = [point for one in series for point in one.points]
    if not points:
        return ""
    x, y = axes([a for a, _ in points], [b for _, b in points])
    inside = []
    for one in series:
        places = [(x(a), y(b)) for a, b in one.points]
        path = "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in places)
        inside.append(f'<path class="line {line_classes(one.number)}" d="{path}"/>')
        if len(places) <= 40:
            inside += [
                mark(one.number, place, title)
                for place, title in zip(places, one.titles(), strict=True)
            ]
    return drawing(title, x, y, "step", "", "".join(inside))


def scatter(
    title: str, dots: Sequence[Series], marked: Sequence[Series], x_name: str, y_name: str
) -> str:
    """Draw points as dots or marks, and the line on which both values are equal."""
    values = [value for one in (*dots, *marked) for point in one.points for value in point]
    if not values:
        return ""
    x, y = axes(values, values)
    ends = f"M{x(x.low):.1f} {y(x.low):.1f}L{x(x.high):.1f} {y(x.high):.1f}"
    inside = [f'<path class="equal" d="{ends}"/>']
    for one in dots:
        for (a, b), text in zip(one.points, one.titles(), strict=True):
            place = f'cx="{x(a):.1f}" cy="{y(b):.1f}" r="2"'
            dot = f'<circle class="dot {colour(one.number)}" {place}>'
            inside.append(f"{dot}<title>{escape(text)}</title></circle>")
    for one in marked:
        for (a, b), text in zip(one.points, one.titles(), strict=True):
            inside.append(mark(one.number, (x(a), y(b)), text))
    return drawing(title, x, y, x_name, y_name, "".join(inside))


def axes(xs: Sequence[float], ys: Sequence[float]) -> tuple[Axis, Axis]:
    """Return the axes around these values; the vertical one's labels set the left margin."""
    y = axis(ys, HEIGHT - BOTTOM, TOP)
    left = 10 + DIGIT * max(len(label) for _, label in y.labelled_ticks())
    return axis(xs, left, WIDTH - RIGHT), y


def _circle(x: float, y: float) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.2"'


def _square(x: float, y: float) -> str:
    return f'<rect x="{x - 2.9:.1f}" y="{y - 2.9:.1f}" width="5.8" height="5.8"'


def _diamond(x: float, y: float) -> str:
    return f'<path d="M{x:.1f} {y - 4:.1f}l4 4l-4 4l-4 -4z"'


def _triangle(x: float, y: float) -> str:
    return f'<path d="M{x:.1f} {y - 3.8:.1f}l4 7h-8z"'


MARKS: tuple[Callable[[float, float], str], ...] = (_circle, _square, _diamond, _triangle)


def colour(number: int) -> str:
    """Return the style sheet's class of a run's colour."""
    return f"run{number % len(MARKS)}"


def shape_of(number: int) -> int:
    """Return which mark and dashes a run has: the fifth one shares the first's colour only."""
    return (number + number // len(MARKS)) % len(MARKS)


def line_classes(number: int) -> str:
    """Return the style sheet's classes of a run's line."""
    return f"{colour(number)} dash{shape_of(number)}"


def mark(number: int, place: Point, title: str) -> str:
    """Draw a run's mark at a place, with a title."""
    shape = MARKS[shape_of(number)](*place)
    end = f"</{shape[1:].split()[0]}>"
    return f'{shape} class="mark {colour(number)}"><title>{escape(title)}</title>{end}'


def key(name: str, number: int) -> str:
    """Return an entry of the legend: a piece of a run's line with its mark."""
    line = f'<path class="line {line_classes(number)}" d="M0 7H30"/>'
    return (
        f'<li><svg viewBox="0 0 30 14" class="key" aria-hidden="true">{line}'
        f"{mark(number, (15, 7), name)}</svg> {escape(name)}</li>"
    )
