"""Where a cell's time goes: the measured cells compute what they should, and what is concluded follows."""

import time

import numpy as np
import pytest
import torch

from analysis.cell_time import MOST, Parts, Timing, WithoutProducts, elementwise, facts, markdown, table, timing
from search import cells, unroll
from search.engines.plan import make_plan
from search.engines.use import counted

NAMES = ["vanilla", "gru", "clockwork", "layer_norm", "lem", "slstm"]


@pytest.mark.parametrize("name", NAMES)
def test_a_cell_without_products_is_the_cell_with_weights_of_zero(name: str) -> None:
    """On the CPU engine against the reference, whose products are there and of zeros; and none counts."""
    torch.manual_seed(time.time_ns() % 2**31)
    cell = cells.get(name)
    shapes, without = cell.parameters(3, 17), WithoutProducts(cell)
    assert without.parameters(3, 17) == shapes
    biases = {pre.bias for pre in cell.preactivations.values()}
    params = {name: torch.randn(shape, dtype=torch.float64) for name, shape in shapes.items()}
    zero = {k: v if v.ndim == 1 and k not in biases else torch.zeros_like(v) for k, v in params.items()}
    x = torch.randn(12, 2, 3, dtype=torch.float64)
    ours, theirs = unroll(without, params, x, "cpu"), unroll(cell, zero, x, "reference")
    print("relative error:", float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1e-300)))
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    assert not any(counted(without, 3, 17).values())


def test_cells_without_products_can_be_told_apart() -> None:
    assert WithoutProducts(cells.get("gru")) != WithoutProducts(cells.get("rnn"))
    assert len({WithoutProducts(cells.get(name)) for name in NAMES}) == len(NAMES)


VANILLA = Parts(products=2.4e-6, elementwise=0.8e-6, common=0.8e-6)  # 4 us


@pytest.mark.parametrize(
    "cell, arithmetic, times, why",
    [
        (Parts(1.2e-6, 0.6e-6, 0.8e-6), 0.5, 1.3, ""),
        (Parts(0.3e-6, 0.1e-6, 0.8e-6), 0.1, 3.0, "0.8 of 1.2 us are noise on the inputs"),
        (
            Parts(2.4e-6, 4.0e-6, 0.8e-6),
            1.0,
            1.8,
            "4 of 7.2 us are elementwise, forward and backward: 8 + 19 operations",
        ),
        (Parts(4.8e-6, 0.8e-6, 0.8e-6), 1.0, 1.6, "4.8 of 6.4 us are products, 3 of them, at 0.50 of vanilla's rate"),
    ],
)
def test_the_reason_is_the_part_that_is_most_over_vanillas(
    cell: Parts, arithmetic: float, times: float, why: str
) -> None:
    found, plan = Timing(cell, VANILLA, arithmetic, share=0.5), make_plan(cells.get("gru"))
    assert found.times == pytest.approx(times) and (found.times <= MOST + 1e-9) == (not why)
    excess = found.excess
    assert excess.total == pytest.approx(cell.total - arithmetic * VANILLA.total)
    said = found.why(plan) if why else ""
    assert said.startswith(why) and ("why that is more" in facts(found, plan)) == bool(why)
    if why:
        rows = table(
            {"gru": (cells.get("gru"), found), "vanilla": (cells.get("vanilla"), Timing(VANILLA, VANILLA, 1, 1))}
        )
        assert [row[0] for row in rows[1:]] == ["gru", "vanilla"] and rows[1][-1] == said and rows[2][2] == "1.00"
        assert f"| {said} |" in markdown(rows, "M = 3")


def test_elementwise_operations_are_those_of_the_schedule() -> None:
    plan = make_plan(cells.get("gru"))
    assert elementwise(plan)[0] == 8  # 3 functions, 1 - z, 3 products, a sum
    assert elementwise(plan, ("sigmoid", "tanh")) == (3, 0)


def test_a_measured_time_is_of_its_parts() -> None:
    """What can be held on a machine that does other things: the sum, and that there is a rate."""
    found = timing(cells.get("gru"), 3, 5)
    assert found.cell.total > 0 and found.vanilla.total > 0 and found.cell.common == found.vanilla.common > 0
    assert found.arithmetic == pytest.approx(
        (2 * 2 * 3 * 15 + 2 * 3 * 75 + 2 * 3 * 10) / (2 * 2 * 4 * 15 + 2 * 3 * 100 + 2 * 3 * 10)
    )
    assert 0 < found.share < 1 and np.isfinite(found.times)
