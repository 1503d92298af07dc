"""What a sweep found, as one object: a table of members, their histories and chosen parameters."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from jaxnn import checks
from jaxnn.sweep import importance, tabular
from jaxnn.sweep.axes import Column, HParams, Static, array_of, take
from jaxnn.sweep.run import Best, Sweep, members

MODES = {"min": 1.0, "max": -1.0}  # what scores are multiplied with, so that the least is best
Where = Mapping[str, Any] | Callable[[HParams], Any]
Pick = Callable[[PyTree], PyTree]


class Pivot(NamedTuple):
    """A score over two axes: their distinct values, and (y, x) means; NaN where no member is."""

    x: list[Any]
    y: list[Any]
    value: np.ndarray


@jax.tree_util.register_dataclass
@dataclass(frozen=True, repr=False)
class Results:
    """All members of a sweep as a table; made by `collect`.

    Attributes:
        hparams: columns, one entry a member.
        metrics: one number a member, by name.
        history: one curve a member, by name, (members, steps).
        kept: numbers of the members whose parameters were kept, best first.
        params: their parameters, with a leading axis; None if none were kept.
        by: name of the metric that says which is best.
        mode: `min` or `max`.
    """

    hparams: HParams
    metrics: dict[str, Any]
    history: dict[str, Any]
    kept: Any
    params: Any
    by: str = field(metadata={"static": True})
    mode: str = field(metadata={"static": True})

    def __repr__(self) -> str:
        return tabular.text(self.columns(), self.order().tolist(), self.by)

    def __len__(self) -> int:
        return members("sweep.Results", self.hparams)

    def columns(self) -> dict[str, list[Any]]:
        """Returns hyperparameters and metrics by name, as lists with one entry a member."""
        return {name: np.asarray(v).tolist() if not isinstance(v, Static) else v.tolist()
                for name, v in (self.hparams | self.metrics).items()}  # fmt: skip

    def matches(self, where: Where | None) -> np.ndarray:
        """Returns which members a condition holds for: values of axes, or a function of hparams.

        Raises ValueError for an axis that there is not, naming the nearest.
        """
        if where is None:
            return np.ones(len(self), bool)
        if callable(where):
            found = np.asarray(where(self.hparams))
            checks.shape("sweep.Results", "where(hparams)", found, (len(self),))
            return found.astype(bool)
        holds = np.ones(len(self), bool)
        for name, value in where.items():
            checks.in_table("sweep.Results", "axis", name, self.hparams)
            column = self.hparams[name]
            if isinstance(column, Static):
                holds &= np.array([v == value for v in column.tolist()])
            else:
                array = np.asarray(column)
                holds &= array == np.asarray(value).astype(array.dtype)
        return holds

    def order(self, by: str | None = None, where: Where | None = None) -> np.ndarray:
        """Returns the numbers of the members, best first; those whose score is NaN come last."""
        name = self.by if by is None else by
        checks.in_table("sweep.Results", "metric", name, self.metrics)
        scores = np.asarray(self.metrics[name], float) * MODES[self.mode]
        order = np.argsort(scores, kind="stable")
        return order[self.matches(where)[order]]

    def best(self, by: str | None = None, where: Where | None = None) -> Best:
        """Returns the best member: its number, hyperparameters and metrics.

        Raises ValueError for an unknown metric or axis, and if no member that matches has a score.
        """
        order = self.order(by, where)
        name = self.by if by is None else by
        if order.size == 0 or np.isnan(np.asarray(self.metrics[name], float)[order[0]]):
            raise ValueError(
                f"sweep.Results: where must leave a member whose {name} is a number, got none"
            )
        member = array_of(order[0])
        one = lambda columns: {name: take(v, member) for name, v in columns.items()}
        return Best(member=member, hparams=one(self.hparams), result=one(self.metrics))

    def predict(self, apply: Callable[..., PyTree], *args: PyTree, count: int = 1) -> PyTree:
        """Returns the mean of `apply(params, *args)` over the `count` best members that were kept.

        One is the best member; more are an ensemble. Give `apply` such that means make sense:
        probabilities or values rather than logits or labels.
        """
        if self.params is None:
            raise ValueError("sweep.Results: params must be kept to predict; see sweep.collect")
        count = checks.count("sweep.Results", "count", count, most=len(self.kept))
        some = jax.tree.map(lambda a: a[:count], self.params)
        outputs = jax.vmap(lambda params: apply(params, *args))(some)
        return jax.tree.map(lambda a: jnp.mean(a, axis=0), outputs)

    def pivot(self, x: str, y: str, by: str | None = None) -> Pivot:
        """Returns the mean of a metric for every pair of values of two axes, for a heat map."""
        name = self.by if by is None else by
        checks.in_table("sweep.Results", "metric", name, self.metrics)
        for axis in (x, y):
            checks.in_table("sweep.Results", "axis", axis, self.hparams)
        columns = self.columns()
        places = {}
        for axis in (x, y):
            # Numbers in order; names in that of their first member.
            distinct = list(dict.fromkeys(columns[axis]))
            names = isinstance(self.hparams[axis], Static)
            places[axis] = distinct if names else sorted(distinct)
        scores = np.asarray(self.metrics[name], float)
        total = np.zeros((len(places[y]), len(places[x])))
        count = np.zeros_like(total)
        for i, score in enumerate(scores):
            cell = places[y].index(columns[y][i]), places[x].index(columns[x][i])
            total[cell] += score
            count[cell] += 1
        value = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
        return Pivot(places[x], places[y], value)

    def importance(self, by: str | None = None, *, seed: int = 0) -> dict[str, float]:
        """Returns the share of the variance of a metric that each axis explains (fANOVA).

        See `sweep.importance`; needs the extra `tables`.
        """
        name = self.by if by is None else by
        checks.in_table("sweep.Results", "metric", name, self.metrics)
        columns = self.columns()
        return importance.fanova({axis: columns[axis] for axis in self.hparams},
                                 columns[name], seed=seed)  # fmt: skip

    def to_pandas(self) -> Any:
        """Returns a pandas DataFrame, one row a member; needs the extra `tables`."""
        return tabular.frame(self.columns())

    def to_parquet(self, path: Any) -> None:
        """Writes one row a member, histories as lists; needs the extra `tables`."""
        curves = {name: np.asarray(v).tolist() for name, v in self.history.items()}
        tabular.frame(self.columns() | curves).to_parquet(path)

    def to_json(self, path: Any = None) -> str:
        """Returns, and writes if a path is given, a list of one object a member; NaN as null."""
        curves = {name: np.asarray(v).tolist() for name, v in self.history.items()}
        return tabular.as_json(self.columns() | curves, path)


def collect(
    sweep: Sweep,
    metrics: Mapping[str, Pick],
    *,
    by: str | None = None,
    mode: str = "min",
    history: Mapping[str, Pick] | None = None,
    params: Pick | None = None,
    keep: int | None = None,
) -> Results:
    """Returns what a sweep found as a table that is printed, searched, saved and predicted with.

    Args:
        sweep: what `run`, `run_groups`, `cross_validate` or `average` returned.
        metrics: for each name what picks one number a member out of the results, (members,).
        by: the metric that says which member is best; the first one by default.
        mode: whether the least (`min`) or the largest (`max`) is best; NaN never is.
        history: for each name what picks one curve a member, (members, steps).
        params: what picks the parameters of all members.
        keep: how many members' parameters are kept, the best ones; all by default.

    Raises:
        TypeError, ValueError: no metrics, values of another shape, unknown `by` or mode.

    >>> done = Sweep({"x": jnp.array([1, 2])}, {"loss": jnp.array([0.5, 0.25])})
    >>> collect(done, {"loss": lambda r: r["loss"]})
    member  x  loss
         1  2  0.25  *
         0  1   0.5
    """
    where = "sweep.collect"
    checks.instance(where, "sweep", sweep, Sweep)
    n = members(where, sweep.hparams)
    if not metrics:
        raise ValueError(f"{where}: metrics must name at least one number of each member")
    name = next(iter(metrics)) if by is None else by
    checks.in_table(where, "metric", name, metrics)
    checks.in_table(where, "mode", mode, MODES)
    found = {label: _numbers(where, label, pick(sweep.results), n)
             for label, pick in metrics.items()}  # fmt: skip
    clash = [label for label in (*found, *(history or {})) if label in sweep.hparams]
    if clash:
        raise ValueError(
            f"{where}: metrics must have names of their own, got the axis {clash[0]!r}"
        )
    curves = {label: jnp.asarray(pick(sweep.results)) for label, pick in (history or {}).items()}
    for label, curve in curves.items():
        checks.shape(where, label, curve, (n, None))
    table = Results(sweep.hparams, found, curves, array_of(np.arange(0)), None, name, mode)
    if params is None:
        return table
    count = n if keep is None else checks.count(where, "keep", keep, most=n)
    kept = table.order()[:count]
    chosen = jax.tree.map(lambda a: a[kept], params(sweep.results))
    return Results(sweep.hparams, found, curves, array_of(kept), chosen, name, mode)


def _numbers(where: str, name: str, values: Any, n: int) -> Float[Array, " n"] | Column:
    array = jnp.asarray(values)
    checks.shape(where, name, array, (n,))
    return array
