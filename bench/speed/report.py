"""The benchmark's results as tables on screen and as curves."""

from pathlib import Path

GB = 1e9
TIMES = (1, 1.5, 2, 3, 5, 10, 20)  # the plain call; shown on the axis
COLOURS = {"DEIG": "#d55e00", "GLIGEN": "#0072b2", "areas": "#009e73"}
DENSE_COLOURS = {"dense": "#cc79a7", "dense, fused kernel": "#e69f00", "masks": "#56b4e9"}


def say_table(result: dict):
    machine = result["machine"]
    load = "" if machine["load"] is None else f", load {machine['load']:.1f}"
    print(
        f"\n{machine['device']} {machine['name']}, {machine['threads']} threads of {machine['cores']} cores{load}, "
        f"torch {machine['torch']}\nOne denoising of positive and negative together, over the plain one: the median "
        "of pairs, its spread, and the ratio of\nmultiplications. Memory at its peak, above what is loaded.\n"
    )
    size = max((len(row["size"]) for row in result["calls"]), default=0)
    print(
        f"{'':{size}} {'':5} {'':20} {'N':>3} {'seconds':>9} {'over plain':>11} {'spread':>15} {'pairs':>6} "
        f"{'counted':>8} {'peak':>9} {'over plain':>11}"
    )
    for row in result["calls"]:
        memory = [
            "" if row[key] is None else f"{row[key] / GB:.2f} GB" for key in ("peak", "peak_over_plain")
        ]
        spread = "{:.2f} to {:.2f}".format(*row["spread"])
        print(
            f"{row['size']:{size}} {row['dtype']:5} {row['way']:20} {row['count']:3} {row['seconds']:9.4f} "
            f"{row['over_plain']:11.2f} {spread:>15} {row['pairs']:6} {row['counted']:8.2f} "
            f"{memory[0]:>9} {memory[1]:>11}"
        )


def say_rest(result: dict):
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
        ruling = bar["ruling"].value if bar["ruling"] == "met" else bar["ruling"].value.upper()
        print(f"  {bar['what']:50} {bar['where']:22} {bar['measured']:38} {bar['wanted']:16} {ruling}")


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
        for row in rows if key == "over_plain" else ():
            if row["way"] == way:
                axis.plot([row["count"]] * 2, row["spread"], color=colour, linewidth=1)
    for way, colour in DENSE_COLOURS.items():
        for row in rows:
            if row["way"] == way:
                axis.plot(row["count"], row[key] / unit, "s", color=colour, label=way)
