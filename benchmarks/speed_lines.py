"""The lines of the table of speed.py, and when a bar is met."""

from dataclasses import dataclass
from typing import Any

_GB, _MB = 1e9, 1e6


@dataclass(frozen=True)
class Row:
    """A line of the table; `vital`: the labels are wrong where the bar is missed."""

    part: str
    what: str
    measured: str
    against: str = ""
    ratio: str = ""
    bar: str = ""
    met: bool | None = None
    vital: bool = False

    @property
    def cells(self) -> list[str]:
        """The cells of the line."""
        met = {None: "", True: "yes", False: "**missed**"}[self.met]
        return [self.part, self.what, self.measured, self.against, self.ratio, self.bar, met]


HEADER = ["part", "what", "measured", "against", "ratio", "bar", "met"]


def right(part: str, what: str, found: dict[str, Any]) -> Row:
    share, rejected = found["right"]
    what = f"{what}: labels that are right"
    return Row(
        part, what, f"{share:.3f}", f"{100 * rejected:.1f} % rejected", "", "at least 0.95",
        share >= 0.95,
    )  # fmt: skip


def same(part: str, what: str, found: dict[str, Any], eager: dict[str, Any]) -> Row:
    """Labels against those of data in memory."""
    differ = int((found["labels"] != eager["labels"]).sum())
    what = f"{what}: labels that differ from those of data in memory"
    of = f"of {eager['labels'].size}"
    return Row(part, what, str(differ), of, bar="0", met=not differ, vital=True)


def at_most(
    part: str, what: str, seconds: float, against: str, reference: float, most: float
) -> Row:
    ratio = seconds / reference
    return Row(
        part, what, as_seconds(seconds), against, f"{ratio:.2f}", f"at most {most}", ratio <= most
    )


def faster(
    part: str, what: str, seconds: float, against: str, reference: float, least: float | None = None
) -> Row:
    ratio = reference / seconds
    bar, met = ("", None) if least is None else (f"at least {least}", ratio >= least)
    return Row(part, what, as_seconds(seconds), against, f"{ratio:.3g}", bar, met)


def memory(part: str, what: str, found: dict[str, Any], most: float | None = None) -> Row:
    peak = found["peak"]
    bar, met = ("", None) if most is None else (f"at most {as_bytes(most)}", peak <= most)
    return Row(part, f"{what}: peak memory", as_bytes(peak), bar=bar, met=met)


def grown(part: str, small: dict[str, Any], large: dict[str, Any]) -> Row:
    times = large["labels"].size / small["labels"].size
    ratio = large["peak"] / max(small["peak"], 1)
    return Row(
        part, f"peak memory of {times:.3g} times the labels", as_bytes(large["peak"]),
        as_bytes(small["peak"]), f"{ratio:.2f}", "at most 1.2", ratio <= 1.2,
    )  # fmt: skip


def rate(part: str, what: str, rate: float, most: float) -> Row:
    return Row(
        part, f"{what}: operations of the encoder in the time", f"{rate / 1e9:.0f} GFLOP/s",
        f"sgemm: {most / 1e9:.0f} GFLOP/s", f"{rate / most:.2f}",
    )  # fmt: skip


def as_seconds(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds < 100 else f"{seconds:.0f} s"


def as_bytes(number: float) -> str:
    return f"{number / _GB:.2f} GB" if number >= _GB else f"{number / _MB:.0f} MB"
