"""Charts as SVG text: no script, colours from the page's style sheet, every point with its title.

Runs are told apart by colour and by dashes or marks, so not by colour alone.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

Point = tuple[float, float]
WIDTH, HEIGHT = 360, 220  # units of the view box: about pixels on a phone
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 10, 34
MOST_POINTS = 120  # of a line; more are averaged, or a long run's page takes megabytes


@dataclass(frozen=True)
class Series:
    """One run's points; `number` chooses its colour, dashes and mark."""

    name: str
    number: int
    points: Sequence[Point]
    what: Sequence[str] = ()  # each point stands for, if there is more to say than its numbers

    def titles(self) -> list[str]:
        """What each point says when pointed at."""
        numbers = [f"{self.name}: {short(b)} at {short(a)}" for a, b in self.points]
        if not self.what:
            return numbers
        return [f"{n}: {what}" for n, what in zip(numbers, self.what, strict=True)]


@dataclass(frozen=True)
class Axis:
    """A range of values onto a range of the drawing."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, about: int = 6) -> list[float]:
        """Round numbers inside the range."""
        step = nice_step((self.high - self.low) / about)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [number * step for number in range(first, last + 1)]


def nice_step(step: float) -> float:
    """The next of 1, 2, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= step * (1 - 1e-9))


def axis(values: Sequence[float], start: float, end: float) -> Axis:
    """Around the values, with room where they are all the same."""
    low, high = min(values), max(values)
    room = (high - low) * 0.04 or abs(high) * 0.1 or 1.0
    return Axis(low - room, high + room, start, end)


def short(value: float) -> str:
    """12000 -> 12k, 0.00005 -> 5e-5"""
    if value and abs(value) < 1e-3:
        return f"{value:.2g}".replace("e-0", "e-")
    if abs(value) >= 1e4:
        return f"{value / 1e3:g}k"
    return f"{value:.4g}"


def averaged(points: Sequence[Point], most: int = MOST_POINTS) -> list[Point]:
    """At most so many points, each the mean of its neighbours."""
    size = max(1, math.ceil(len(points) / most))
    parts = [points[i : i + size] for i in range(0, len(points), size)]
    return [(sum(x for x, _ in p) / len(p), sum(y for _, y in p) / len(p)) for p in parts]


def thinned(points: Sequence[Point], most: int = MOST_POINTS) -> list[Point]:
    """At most so many points and the last one, as they are: a rate's corners stay sharp."""
    size = max(1, math.ceil(len(points) / most))
    return [*points[:-1:size], *points[-1:]]


def drawing(title: str, x: Axis, y: Axis, x_name: str, y_name: str, inside: str) -> str:
    """The frame: grid, ticks, names of the axes."""
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>"
    ]
    for tick in y.ticks():
        at = y(tick)
        parts.append(f'<path class="grid" d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 5}" y="{at + 3.5:.1f}" class="end">{short(tick)}</text>')
    for tick in x.ticks():
        text = (
            f'<text x="{x(tick):.1f}" y="{HEIGHT - BOTTOM + 14}" class="mid">{short(tick)}</text>'
        )
        parts.append(text)
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 4}" class="mid">{escape(x_name)}</text>')
    parts.append(f'<text x="{LEFT}" y="{TOP - 1}">{escape(y_name)}</text>' if y_name else "")
    return "".join([*parts, inside, "</svg>"])


def line_chart(title: str, series: Sequence[Series], x_name: str, y_name: str) -> str:
    """Lines through points; a few points get marks."""
    points = [point for one in series for point in one.points]
    if not points:
        return ""
    x, y = frame(points)
    inside = []
    for one in series:
        places = [(x(a), y(b)) for a, b in one.points]
        path = "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in places)
        inside.append(f'<path class="line {look(one.number)}" d="{path}"/>')
        if len(places) <= 40:
            inside += [
                mark(one.number, place, title)
                for place, title in zip(places, one.titles(), strict=True)
            ]  # fmt: skip
    return drawing(title, x, y, x_name, y_name, "".join(inside))


def scatter(
    title: str, dots: Sequence[Series], marked: Sequence[Series], x_name: str, y_name: str
) -> str:
    """Many points as dots, few as marks, and the line where both values are equal."""
    values = [value for one in (*dots, *marked) for point in one.points for value in point]
    if not values:
        return ""
    x = axis(values, LEFT, WIDTH - RIGHT)
    y = axis(values, HEIGHT - BOTTOM, TOP)
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


def frame(points: Sequence[Point]) -> tuple[Axis, Axis]:
    """Axes that hold all of them."""
    x = axis([a for a, _ in points], LEFT, WIDTH - RIGHT)
    return x, axis([b for _, b in points], HEIGHT - BOTTOM, TOP)


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
    """The style sheet's class of a run's colour."""
    return f"run{number % len(MARKS)}"


def shape_of(number: int) -> int:
    """Its mark and dashes: the fifth run has the first's colour, but the second's shape."""
    return (number + number // len(MARKS)) % len(MARKS)


def look(number: int) -> str:
    """The classes of its line."""
    return f"{colour(number)} dash{shape_of(number)}"


def mark(number: int, place: Point, title: str) -> str:
    """A run's sign at a place; the title shows when pointed at."""
    shape = MARKS[shape_of(number)](*place)
    end = f"</{shape[1:].split()[0]}>"
    return f'{shape} class="mark {colour(number)}"><title>{escape(title)}</title>{end}'


def key(name: str, number: int) -> str:
    """An entry of the legend: a piece of the run's line with its mark."""
    line = f'<path class="line {look(number)}" d="M0 7H30"/>'
    return (
        f'<li><svg viewBox="0 0 30 14" class="key" aria-hidden="true">{line}'
        f"{mark(number, (15, 7), name)}</svg> {escape(name)}</li>"
    )
