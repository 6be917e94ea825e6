"""The one door to a foreign solver: mixed integer linear programs by HiGHS, loaded when one is needed.

`dags` comes here with tasks that are too entangled for dynamic programming. The solver is the extra `optimizer`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from sky.core.errors import NotSupportedError


@dataclass(slots=True)
class Program:
    """Minimise cost over variables within bounds, subject to rows `lower <= sum of coefficient x variable <= upper`."""

    costs: list[float] = field(default_factory=list)
    upper: list[float] = field(default_factory=list)
    whole: list[bool] = field(default_factory=list)
    row_lower: list[float] = field(default_factory=list)
    row_upper: list[float] = field(default_factory=list)
    starts: list[int] = field(default_factory=lambda: [0])
    columns: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def variable(self, cost: float, upper: float = 1.0, *, whole: bool = False) -> int:
        """Add a variable from 0 to `upper`; its number."""
        self.costs.append(cost)
        self.upper.append(upper)
        self.whole.append(whole)
        return len(self.costs) - 1

    def row(self, lower: float, upper: float, terms: Sequence[tuple[int, float]]) -> None:
        """Add a row of (variable, coefficient)."""
        self.row_lower.append(lower)
        self.row_upper.append(upper)
        for column, value in terms:
            self.columns.append(column)
            self.values.append(value)
        self.starts.append(len(self.columns))


def available() -> bool:
    """Whether the solver is installed."""
    try:
        import highspy  # type: ignore[import-not-found,unused-ignore]  # noqa: F401, PLC0415 - an extra of 100 ms
    except ImportError:
        return False
    return True


def solve(program: Program, seconds: float) -> list[float]:
    """Values of the variables in an optimum, proven within `seconds`.

    Raises NotSupportedError when the solver is not installed, TimeoutError when there was not enough time.
    """
    try:
        import highspy  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415 - an extra of 100 ms
    except ImportError as error:
        raise NotSupportedError(
            "These tasks depend on each other in too many ways to be placed without a solver. "
            "Install it with: pip install 'altostratus[optimizer]'"
        ) from error
    model = highspy.HighsLp()
    model.num_col_, model.num_row_ = len(program.costs), len(program.row_lower)
    model.col_cost_, model.col_lower_, model.col_upper_ = program.costs, [0.0] * len(program.costs), program.upper
    model.row_lower_, model.row_upper_ = program.row_lower, program.row_upper
    model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    model.a_matrix_.start_ = program.starts
    model.a_matrix_.index_ = program.columns
    model.a_matrix_.value_ = program.values
    kinds = highspy.HighsVarType
    model.integrality_ = [kinds.kInteger if whole else kinds.kContinuous for whole in program.whole]
    highs = highspy.Highs()  # type: ignore[no-untyped-call,unused-ignore]
    highs.silent()
    highs.setOptionValue("mip_rel_gap", 0.0)
    highs.setOptionValue("mip_abs_gap", 1e-9)
    highs.setOptionValue("time_limit", seconds)
    highs.passModel(model)
    highs.run()
    if highs.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        raise TimeoutError(f"no proven optimum within {seconds:g} seconds")
    return [float(value) for value in highs.getSolution().col_value]
