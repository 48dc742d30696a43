"""What stopping trials early would have cost, of curves of which it is known."""

import numpy as np
import pandas as pd
import pytest

from analysis.beside_figures import draw_halving
from analysis.halving import halving, over_variants
from analysis.style import files
from analysis.summaries import rank_stability


def study(curves: dict[str, list[list[float]]], diverged: tuple[tuple[str, int], ...] = ()) -> tuple[pd.DataFrame, ...]:
    """Trials whose test score is 1 above the best validation score, and their curves."""
    trials, rows = [], []
    for variant, each in curves.items():
        for number, curve in enumerate(each):
            bad = (variant, number) in diverged
            best = min(curve, default=np.nan)
            trials.append(
                {"study": "s", "task": "t", "variant": variant, "trial": number, "status": "finished"}
                | {"valid_score": best, "test_score": best + 1, "epochs": len(curve) + bad}
                | ({"status": "diverged", "test_score": np.nan} if bad else {})
            )
            rows += [(variant, number, epoch, score) for epoch, score in enumerate(curve, 1)]
    frame = pd.DataFrame(trials).astype({"trial": "Int64", "epochs": "Int64"})
    kind = pd.CategoricalDtype(list(curves), ordered=True)
    seen = pd.DataFrame(rows, columns=["variant", "trial", "epoch", "valid_score"])
    return frame.astype({"variant": kind}), seen.astype({"variant": kind})


def test_nothing_is_lost_where_the_order_stays_and_all_where_it_turns() -> None:
    stays = [[10.0 + k - e for e in range(8)] for k in range(20)]
    turns = [[10.0 + k] * 4 + [5.0 - k] * 4 for k in range(20)]
    found = halving(*study({"stays": stays, "turns": turns}), epochs=(4, 6))
    once = found[found["how"] == "once"].set_index(["variant", "epoch"])
    assert list(once["lost"]) == [0.0, 0.0, 1.0, 0.0] and (once["n_best"] == 2).all() and (once["n"] == 20).all()
    # Of the better half, trials 0 to 9, the best are 9 and 8; the best of all are 19 and 18.
    assert once["shift"].tolist() == [0.0, 0.0, 10.0, 0.0]
    assert once["saved"].tolist() == pytest.approx([10 * 4 / 160, 10 * 2 / 160] * 2)
    turn = found[found["how"] == "in turn"].set_index(["variant", "epoch"])
    assert turn["saved"]["stays", 6] == pytest.approx((10 * 4 + 5 * 2) / 160)
    assert turn["lost"]["turns", 6] == 1.0, "who was stopped does not come back"


def test_of_an_odd_number_the_larger_half_goes_on_and_equal_ones_by_their_number() -> None:
    found = halving(*study({"v": [[2.0, 2.0], [2.0, 2.0], [2.0, 1.0]]}), epochs=(1,))
    assert found["lost"].tolist() == [1.0, 1.0] and found["saved"].tolist() == pytest.approx([1 / 6] * 2)


def test_a_trial_that_diverges_later_looks_well_until_then() -> None:
    curves = {"v": [[3.0] * 6, [1.0] * 3, [2.0] * 6, [4.0] * 6]}
    trials, seen = study(curves, diverged=(("v", 1),))  # in its fourth epoch
    found = halving(trials, seen, epochs=(3, 4))
    once = found[found["how"] == "once"].set_index("epoch")
    assert once["lost"].tolist() == [0.0, 0.0]
    # At 3 trials 1 and 2 go on: 0 and 3 would have 3 epochs more; at 4 it has gone, and 0 goes on in its place.
    assert once["saved"].tolist() == pytest.approx([6 / 22, 2 / 22])
    none = halving(*study({"v": [[], []]}, diverged=(("v", 0), ("v", 1))), epochs=(1,))
    assert none["lost"].isna().all() and none["shift"].isna().all() and (none["n_best"] == 0).all()


def test_trials_that_have_not_ended_do_not_count() -> None:
    trials, seen = study({"v": [[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]})
    trials.loc[0, ["status", "valid_score", "test_score", "epochs"]] = ["running", np.nan, np.nan, pd.NA]
    assert (halving(trials, seen[seen["trial"] > 0], epochs=(1,))["n"] == 2).all()


def test_over_variants_a_bias_is_the_largest_change_of_a_difference() -> None:
    turns = [[10.0 + k] * 4 + [5.0 - k] * 4 for k in range(20)]
    stays = [[10.0 + k - e for e in range(8)] for k in range(20)]
    found = over_variants(halving(*study({"vanilla": stays, "turns": turns}), epochs=(4,)), "vanilla")
    assert found["bias"].tolist() == [10.0, 10.0] and found["lost"].tolist() == [0.5, 0.5]
    assert found["lost_low"].tolist() == [0.0, 0.0] and found["lost_high"].tolist() == [1.0, 1.0]


def test_it_is_drawn() -> None:
    rng = np.random.default_rng()
    curves = {v: [list(rng.random() + 3 / np.arange(1, 50)) for _ in range(30)] for v in ("vanilla", "np", "cifg")}
    trials, seen = study(curves)
    assert files(draw_halving(rank_stability(trials, seen), halving(trials, seen), "vanilla"), ["png"])["png"]
