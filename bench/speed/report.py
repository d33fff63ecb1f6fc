"""The benchmark's results as tables on screen and as curves."""

from dataclasses import asdict, dataclass
from pathlib import Path

GB = 1e9
TIMES = (1, 1.5, 2, 3, 5, 10, 20)  # the plain call; shown on the axis
COLOURS = {"DEIG": "#d55e00", "GLIGEN": "#0072b2", "areas": "#009e73"}
DENSE_COLOURS = {"dense": "#cc79a7", "dense, fused kernel": "#e69f00", "masks": "#56b4e9"}


@dataclass(frozen=True)
class Bar:
    """A figure and what it should be.

    Args:
        name: of what.
        where: at which size and precision.
        value: as measured.
        at_most, at_least: the bar, one of the two.
    """

    name: str
    where: str
    value: float
    at_most: float | None = None
    at_least: float | None = None

    @property
    def is_met(self) -> bool:
        return self.value <= self.at_most if self.at_least is None else self.value >= self.at_least

    def as_dict(self) -> dict:
        return asdict(self) | {"met": self.is_met}


def say_table(result: dict):
    machine = result["machine"]
    print(f"\n{machine['device']} {machine['name']}, {machine['threads']} threads, torch {machine['torch']}")
    print("One denoising of positive and negative together; memory at its peak, above what is loaded.\n")
    print(f"{'':8} {'':5} {'':20} {'N':>3} {'seconds':>9} {'over plain':>11} {'peak':>9} {'over plain':>11}")
    for row in result["calls"]:
        memory = [
            "" if row[key] is None else f"{row[key] / GB:.2f} GB" for key in ("peak", "peak_over_plain")
        ]
        print(
            f"{row['size']:8} {row['dtype']:5} {row['way']:20} {row['count']:3} {row['seconds']:9.4f} "
            f"{row['over_plain']:11.2f} {memory[0]:>9} {memory[1]:>11}"
        )
    print("\nText encoder of Flan-T5-XL's size, 10 phrases")
    for name, figures in result["text"].items():
        print(f"  {name:20} {figures['encoded']:3} encoded {figures['seconds']:9.3f} s")
    print(
        f"\nLow memory, GB on the device while sampling{'':5} UNet  adapter  text encoder     peak  difference"
    )
    for name, figures in result["low_memory"].items():
        parts = [
            "" if figures[key] is None else f"{figures[key] / GB:.2f}"
            for key in ("unet", "adapter", "text_encoder", "peak")
        ]
        print("  {:44} {:>6} {:>8} {:>13} {:>8}".format(name, *parts) + f"  {figures['difference']:10.1e}")


def say_bars(result: dict):
    print("\nBars")
    for bar in result["bars"]:
        limit = f"at most {bar['at_most']:g}" if bar["at_least"] is None else f"at least {bar['at_least']:g}"
        verdict = "met" if bar["met"] else "NOT MET"
        print(f"  {bar['name']:50} {bar['where']:14} {bar['value']:9.3f}   {limit:14} {verdict}")


def write_curves(result: dict, path: Path):
    """Draw time and memory over the number of instances, one row for each size and precision."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    groups = list(dict.fromkeys((row["size"], row["dtype"]) for row in result["calls"]))
    figure, axes = pyplot.subplots(
        len(groups), 2, figsize=(11, 4 * len(groups)), squeeze=False, layout="constrained"
    )
    for (size, dtype), (time, memory) in zip(groups, axes, strict=True):
        rows = [row for row in result["calls"] if (row["size"], row["dtype"]) == (size, dtype)]
        time.set(title=f"{size}, {dtype}: time", ylabel="over the plain call", yscale="log")
        memory.set(title=f"{size}, {dtype}: memory", ylabel="peak above the plain call's, GB")
        _draw(time, rows, "over_plain", 1)
        _draw(memory, [row for row in rows if row["peak_over_plain"] is not None], "peak_over_plain", GB)
        time.set_yticks(TIMES, labels=[f"{times:g}" for times in TIMES])
        time.minorticks_off()
    for axis in axes.flat:
        axis.set_xlabel("instances")
        axis.grid(alpha=0.3)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=6)
    machine = result["machine"]
    figure.suptitle(f"{machine['device']} {machine['name']}, torch {machine['torch']}")
    figure.savefig(path, dpi=110)


def _draw(axis, rows: list[dict], key: str, unit: float):
    for way, colour in COLOURS.items():
        points = sorted((row["count"], row[key] / unit) for row in rows if row["way"] == way)
        if points:
            axis.plot(*zip(*points, strict=True), marker="o", color=colour, label=way)
    for way, colour in DENSE_COLOURS.items():
        for row in rows:
            if row["way"] == way:
                axis.plot(row["count"], row[key] / unit, "s", color=colour, label=way)
