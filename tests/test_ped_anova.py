"""PED-ANOVA against divergences computed by hand and by quadrature, and where nothing matters."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from analysis.ped_anova import ped_anova
from search.errors import UserError
from search.study.space import Dimension

EVEN = Dimension("even", "uniform", 0.0, 1.0)
GATE = Dimension("gate", "choice", values=("sigmoid", "one", "coupled", "none"))


def test_divergence_of_categories_is_that_of_their_frequencies() -> None:
    gates = ["sigmoid"] * 25 + ["one"] * 25 + ["coupled"] * 25 + ["none"] * 25
    best = np.zeros(100, dtype=bool)
    best[[*range(6), *range(25, 29)]] = True  # 6 sigmoid, 4 one
    table = ped_anova([gates], best, [GATE], n_random=10)
    # densities 4 x 0.6 and 4 x 0.4 against 1: (1.4^2 + 0.6^2 + 1 + 1) / 4
    assert table["divergence"].item() == pytest.approx((1.4**2 + 0.6**2 + 2) / 4)
    assert table["share"].item() == 1


def test_divergence_of_numbers_is_that_of_the_paper_by_quadrature() -> None:
    values = np.array([0.02, 0.1, 0.15, 0.4, 0.41, 0.9, *np.linspace(0, 1, 30)])
    best = np.arange(36) < 6
    width = np.sqrt(1 / 12) * 6**-0.2

    def density(u: float) -> float:
        kernels = norm.pdf(u, values[:6], width)
        return float(np.mean(kernels / (norm.cdf(1, values[:6], width) - norm.cdf(0, values[:6], width))))

    expected = quad(lambda u: (density(u) - 1) ** 2, 0, 1)[0]
    table = ped_anova([values], best, [EVEN], n_random=10)
    assert table["divergence"].item() == pytest.approx(expected, rel=1e-4)


def test_a_logarithmic_setting_is_the_even_one_of_its_logarithms() -> None:
    u = np.random.default_rng(0).random(100)
    rate = Dimension("rate", "log_uniform", 1e-6, 1e-2)
    of_log, of_even = (
        ped_anova([column], u < 0.1, [d], n_random=10)["divergence"].item()
        for column, d in ((10 ** (4 * u - 6), rate), (u, EVEN))
    )
    assert of_log == pytest.approx(of_even)


def test_what_decides_is_first_and_what_does_not_matter_is_as_by_chance() -> None:
    """Local importance: `shape` moves the score of bad trials alone, `fine` that of all a little."""
    false = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        shape, fine, idle = rng.random((3, 200))
        score = 100 * np.maximum(shape - 0.5, 0) + fine
        best = np.argsort(np.argsort(score)) < 20
        names = [Dimension(name, "uniform", 0.0, 1.0) for name in ("shape", "fine", "idle")]
        table = ped_anova([shape, fine, idle], best, names, n_random=200, seed=seed).set_index("dimension")
        assert table.index[0] == "fine" and table.loc["fine", "matters"]
        assert table["share"].sum() == pytest.approx(1)
        false += bool(table.loc["idle", "matters"])
    assert false <= 2


def test_few_best_trials_are_one_line() -> None:
    with pytest.raises(UserError, match="best trials=4: expected at least 5"):
        ped_anova([np.linspace(0, 1, 40)], np.arange(40) < 4, [EVEN])
