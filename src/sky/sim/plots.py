"""Pictures of `sky.sim.trials`, by matplotlib, which is in the extra `plot` and imported only here."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sky.core.errors import InvalidSkyPilotConfigError, NotSupportedError
from sky.sim.trials import OPTIMUM, Row

FORMS = (".svg", ".png")


def _canvas() -> Any:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - an extra, and slow to load
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError:
        raise NotSupportedError(
            "A plot needs matplotlib, which is not installed here. Install it with "
            "`pip install 'altostratus[plot]'`, or leave --plot out."
        ) from None
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def check(path: Path) -> None:
    """Refuse a file name that no plot can have, and a missing matplotlib, before anything is played."""
    if path.suffix not in FORMS:
        raise InvalidSkyPilotConfigError(f"{path} is no name for a plot: end it with {' or '.join(FORMS)}.")
    if not path.absolute().parent.is_dir():
        raise InvalidSkyPilotConfigError(f"There is no folder {path.absolute().parent} for the plot.")
    _canvas()


def spread(rows: Sequence[Row], path: Path, title: str) -> None:
    """Write how the plays of each policy are spread over costs: the share of plays that cost no more than so much."""
    figure = _canvas()
    axes = figure.subplots()
    for row in rows:
        costs = sorted(row.costs)
        shares = [(place + 1) / len(costs) for place in range(len(costs))]
        style = {"color": "black", "linestyle": "--"} if row.policy == OPTIMUM else {}
        axes.step(costs, shares, where="post", label=f"{row.policy} (mean ${row.cost:,.2f})", **style)
    axes.set(xlabel="cost of the job (USD)", ylabel="share of starts", title=title, ylim=(0, 1.02))
    axes.legend(loc="lower right", fontsize="small")
    axes.grid(visible=True, alpha=0.3)
    _save(figure, path)


def ratios(lines: Mapping[str, Mapping[float, float]], path: Path, title: str) -> None:
    """Write one line per policy: cost over the optimum's, by the deadline in multiples of the work."""
    figure = _canvas()
    axes = figure.subplots()
    for name, points in lines.items():
        places = sorted(points)
        axes.plot(places, [points[place] for place in places], marker="o", markersize=3, label=name)
    axes.axhline(1.0, color="black", linestyle="--", linewidth=1)
    axes.set(xlabel="deadline / work", ylabel="cost / optimum", title=title)
    axes.legend(fontsize="small")
    axes.grid(visible=True, alpha=0.3)
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    # Without the date, so that the same plays make the same file.
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
