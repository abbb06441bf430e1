"""Results: what the benchmarks of one run found, in the order in which they found it."""

from benchmarks.figures import Figure


class Results:
    """Collects the values of figures, run by run, and remarks on what could not be measured."""

    def __init__(self) -> None:
        self._values: dict[str, list[float]] = {}
        self._units: dict[str, str] = {}
        self._notes: list[str] = []

    def add(self, name: str, unit: str, value: float) -> None:
        """Another run of a figure. Raises ValueError when the figure had another unit before."""
        if self._units.setdefault(name, unit) != unit:
            raise ValueError(f"{name} is in {self._units[name]}, not in {unit}")
        self._values.setdefault(name, []).append(value)

    def add_cpu(self, who: str, milliseconds: float | None) -> None:
        """Another run of what one unit of work costs in processor time; None is left out."""
        if milliseconds is not None:
            self.add(f"{who}, processor time", "ms each", milliseconds)

    def note(self, text: str) -> None:
        """What a reader of the figures has to know; said once, however often it is noted."""
        if text not in self._notes:
            self._notes.append(text)

    @property
    def notes(self) -> tuple[str, ...]:
        """The remarks."""
        return tuple(self._notes)

    def figures(self) -> list[Figure]:
        """All figures so far."""
        return [
            Figure(name=name, unit=self._units[name], values=tuple(values))
            for name, values in self._values.items()
        ]
