"""What every compiled engine must hold: the numbers of the reference engine, for any cell, in any company.

The CUDA engine runs in the emulator of `tests.cuda_emulator`, which stops at the first wrong access to memory.
"""

import time
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from search import engines, rules
from search.base.randomness import input_noise
from search.cells import Cell, get
from search.engines import Engine, Interrupted, Member
from search.errors import UserError
from search.losses import LOSSES
from tests.clockwork import Clockwork
from tests.conftest import assert_same_state, make_member
from tests.contract import CELLS, ENGINES, TOLERANCE, Averaged, Odd, Scale, assert_unrolls_like, lstms, make_engine
from tests.cuda_emulator import installed

OTHER_LOSSES = [*(loss for loss in LOSSES if loss != "bernoulli"), "tests.huber.Huber"]

pytestmark = pytest.mark.usefixtures("fresh_cache")


MARKED = [pytest.param(name, marks=pytest.mark.slow) if "shared" in name else name for name in ENGINES]


@pytest.fixture(params=MARKED)
def name(request: pytest.FixtureRequest) -> str:
    if request.param != "cpu" and not installed():
        pytest.skip("needs g++, as by apt-get install g++, and an x86-64 processor")
    return request.param


@pytest.fixture
def engine(name: str) -> Engine:
    return make_engine(name)


@pytest.fixture
def scale(name: str) -> Scale:
    return Scale.of(name)


@pytest.fixture
def reference() -> Engine:
    return engines.choose("reference", "cpu")


@pytest.fixture(autouse=True)
def fresh_numbers() -> None:
    torch.manual_seed(time.time_ns() % 2**31)
    print("torch seed:", torch.initial_seed())


def state(members: Sequence[Member]) -> list[np.ndarray]:
    return [vector.copy() for member in members for vector in member.vectors]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("cell", CELLS)
def test_unroll_equals_the_reference(engine: Engine, reference: Engine, scale: Scale, cell: str, dtype: str) -> None:
    for n_units, n_steps, n_batch in scale.shapes:
        shape = {"n_units": n_units, "n_steps": n_steps, "n_batch": n_batch}
        assert_unrolls_like(engine, reference, get(cell), **shape, dtype=dtype)


@pytest.mark.parametrize("n_units", [1, 17])
def test_a_cell_of_any_structure_unrolls_like_the_reference(engine: Engine, reference: Engine, n_units: int) -> None:
    for dtype in TOLERANCE:
        assert_unrolls_like(engine, reference, Odd(), n_units=n_units, n_steps=3, dtype=dtype)


@pytest.mark.slow
def test_some_toggle_combinations_equal_the_reference(engine: Engine, reference: Engine) -> None:
    """A sample that changes from run to run; the next test has them all."""
    cells = lstms()
    for k in torch.randperm(len(cells))[:10].tolist():
        assert_unrolls_like(engine, reference, cells[k], n_units=3, n_steps=3, dtype="float64")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cpu"])
def test_every_toggle_combination_equals_the_reference(name: str, reference: Engine) -> None:
    for cell in lstms():
        assert_unrolls_like(make_engine(name), reference, cell, n_units=5, n_steps=4, dtype="float64")


@pytest.mark.parametrize(
    "name, loss, bidirectional",
    [
        *(
            pytest.param(name, "bernoulli", both, marks=[pytest.mark.slow] if both or "shared" in name else [])
            for name in ENGINES
            for both in (False, True)
        ),
        # How much is in shared memory is nothing to a loss.
        *(
            pytest.param(name, loss, True, marks=pytest.mark.slow)
            for name in ("cpu", "cuda")
            for loss in (*LOSSES, "tests.huber.Huber")
            if loss != "bernoulli"
        ),
    ],
    indirect=["name"],
)
@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-9), ("float32", 1e-4)])
def test_training_equals_the_reference(
    engine: Engine, reference: Engine, scale: Scale, loss: str, bidirectional: bool, dtype: str, tolerance: float
) -> None:
    for n_outputs in scale.n_outputs:
        task = scale.task(loss=loss, bidirectional=bidirectional, n_outputs=n_outputs)
        ours, theirs = scale.population(task, dtype), scale.population(task, dtype)
        a, b = (scale.curves(e, task, members, dtype) for e, members in ((engine, ours), (reference, theirs)))
        np.testing.assert_allclose(a, b, rtol=tolerance)
        assert_same_state(ours, theirs, tolerance, scale.epochs)


@pytest.mark.slow
@pytest.mark.parametrize("name", ENGINES, indirect=True)
@pytest.mark.parametrize(
    "dtype, tolerance, bidirectional, clip_norm",
    [("float64", 1e-9, False, 0.5), ("float64", 1e-9, True, None), ("float32", 1e-4, True, 0.5)],
)
def test_networks_of_several_layers_train_like_the_reference(
    engine: Engine,
    reference: Engine,
    scale: Scale,
    dtype: str,
    tolerance: float,
    bidirectional: bool,
    clip_norm: float | None,
) -> None:
    task = scale.task(bidirectional=bidirectional)
    optimizer = {"rule": "sgd", "clip_norm": clip_norm}
    sizes = [("vanilla", 2, False, 9), ("vanilla", 2, False, 17), ("gru", 3, True, 5), ("fgr", 2, True, 8)]
    rows = []
    for each in (engine, reference):
        members = [
            make_member(task, cell, n, k, dtype, optimizer, n_layers=n_layers, skip=skip)
            for k, (cell, n_layers, skip, n) in enumerate(sizes)
        ]
        rows.append((scale.curves(each, task, members, dtype, threads=2), members))
    (a, ours), (b, theirs) = rows
    np.testing.assert_allclose(a, b, rtol=tolerance)
    assert_same_state(ours, theirs, tolerance, scale.epochs)


@pytest.mark.slow
@pytest.mark.parametrize("cell", [Clockwork(), Averaged()])
def test_a_cell_with_constants_time_or_means_is_like_the_reference(
    engine: Engine, reference: Engine, scale: Scale, cell: Cell
) -> None:
    for n_units in (1, 6, 19):
        assert_unrolls_like(engine, reference, cell, n_units=n_units, n_steps=9, dtype="float64")
    task = scale.task(bidirectional=True)
    rows = []
    for each in (engine, reference):
        members = [make_member(task, cell, n, n, "float64", n_layers=2) for n in (5, 18)]
        rows.append((scale.curves(each, task, members, "float64"), members))
    (a, ours), (b, theirs) = rows
    np.testing.assert_allclose(a, b, rtol=1e-9)
    assert_same_state(ours, theirs, 1e-9, scale.epochs)


RULES: dict[str, dict[str, float]] = {
    "rmsprop": dict(rho=0.9, eps=1e-4),
    "adam": dict(beta1=0.9, beta2=0.99, eps=1e-4),
    "adamw": dict(beta1=0.9, beta2=0.99, eps=1e-4, decay=0.1),
    "adagrad": dict(eps=1e-4),
    "lion": dict(beta1=0.9, beta2=0.99, decay=0.1),
    "rprop": dict(up=1.2, down=0.5, least=1e-6, most=0.1),
    "tests.sign_decay.SignDecay": dict(decay=0.1),
}


@pytest.mark.parametrize("name", [pytest.param("cpu", marks=pytest.mark.slow), "cuda"], indirect=True)
@pytest.mark.parametrize("rule", RULES)
def test_every_rule_trains_like_the_reference(engine: Engine, reference: Engine, scale: Scale, rule: str) -> None:
    task = scale.task(bidirectional=True)
    optimizer = {"rule": rule, "schedule": "cosine", "period": 5.0, "warmup": 0.3, "clip_value": 0.5}
    rows = []
    for each in (engine, reference):
        members = [
            make_member(task, cell, n, n, "float64", optimizer, lr=0.01 * n, **RULES[rule])
            for cell, n in (("gru", 2), ("gru", 3), ("np", 2))
        ]
        rows.append([scale.curves(each, task, members, "float64"), *state(members)])
    for ours, theirs in zip(*rows, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)


def test_a_cell_of_any_structure_trains_like_the_reference(engine: Engine, reference: Engine, scale: Scale) -> None:
    task = scale.task(bidirectional=True)
    rows = []
    for each in (engine, reference):
        members = [make_member(task, Odd(), n, n, "float64") for n in (2, 5)]
        rows.append([scale.curves(each, task, members, "float64"), *state(members)])
    for ours, theirs in zip(*rows, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("n_inputs, n_outputs", [(1, 1), (5, 9)])
def test_widths_of_input_and_output_need_not_fit_the_tiles(
    engine: Engine, reference: Engine, scale: Scale, n_inputs: int, n_outputs: int
) -> None:
    task = scale.task(n_inputs=n_inputs, n_outputs=n_outputs)
    a, b = (scale.curves(e, task, [make_member(task, "gru", 3, 1, "float64")], "float64") for e in (engine, reference))
    np.testing.assert_allclose(a, b, rtol=1e-9)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_a_result_is_the_same_to_the_bit_in_any_company_and_on_any_number_of_threads(
    engine: Engine, scale: Scale, dtype: str
) -> None:
    task = scale.task(bidirectional=True)
    together, threaded = scale.population(task, dtype), scale.population(task, dtype)
    rows = scale.curves(engine, task, together, dtype)
    np.testing.assert_array_equal(scale.curves(engine, task, threaded[::-1], dtype, threads=3)[:, ::-1], rows)
    np.testing.assert_array_equal(np.concatenate(state(threaded)), np.concatenate(state(together)))
    for k in (0, 3, 5):
        alone = scale.population(task, dtype)[k]
        np.testing.assert_array_equal(scale.curves(engine, task, [alone], dtype)[:, 0], rows[:, k])
        np.testing.assert_array_equal(alone.weights, together[k].weights)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_a_diverged_member_shows_and_disturbs_no_neighbour(engine: Engine, scale: Scale, dtype: str) -> None:
    task = scale.task()
    calm = scale.curves(engine, task, scale.population(task, dtype)[-2:], dtype)
    members = scale.population(task, dtype)[-2:]
    members.insert(1, make_member(task, "irnn", 2, 3, dtype, lr=1e6 if dtype == "float32" else 1e50))
    members.insert(2, make_member(task, "vanilla", 2, 3, dtype))
    members[2].weights[:] = np.nan
    rows = scale.curves(engine, task, members, dtype)
    assert not np.isfinite(rows[:, 1]).all() and np.isnan(rows[:, 2]).all()
    np.testing.assert_array_equal(np.delete(rows, [1, 2], axis=1), calm)


@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-12), ("float32", 2e-6)])
@pytest.mark.parametrize("n_inputs, n_outputs", [(1, 1), (3, 2), (9, 17)])
def test_input_noise_is_that_of_the_specification(
    engine: Engine, scale: Scale, dtype: str, tolerance: float, n_inputs: int, n_outputs: int
) -> None:
    """One unit that hands x on and an output of zero weight: the first update of W is 0.5 lr x, noise and all."""
    task = scale.task(n_inputs=n_inputs, n_outputs=n_outputs)
    index, std, seed = 2, 0.7, 2**40 + 5
    x = task.splits["train"].inputs[index]
    member = make_member(task, "irnn", 1, 0, dtype, lr=1.0, momentum=0.0, input_noise=std)
    member.seed, member.epoch = seed, 6
    params = member.network.unpack(member.weights)
    for name, value in {"W": 1e-6, "R": 0.0, "b": 1e3, "W_out": 1e-6, "b_out": 0.0}.items():
        params[name][...] = value
    before = params["W"].copy()
    noisy = x + std * input_noise(np.array([seed]), 6, index, x.shape)[0]
    # y = 1000 + ..., so a logit is 1e-3 wherever it stands: d loss / d y = 1e-6 sum(sigmoid(logit) - target).
    engine.trainer(task, dtype, 1).train_epoch([member], [np.array([index], np.int32)])
    logits = 1e-6 * (1e3 + 1e-6 * noisy.sum(1))
    d = 1e-6 * (1 / (1 + np.exp(-logits))[:, None] - task.splits["train"].targets[index]).sum(1)
    np.testing.assert_allclose((before - params["W"])[0], d @ noisy, atol=tolerance * np.abs(d) @ np.abs(noisy).sum(1))


def test_stop_leaves_members_as_they_were(engine: Engine, scale: Scale) -> None:
    task = scale.task()
    members = scale.population(task, "float64")
    before = state(members)
    trainer = engine.trainer(task, "float64", 1)
    trainer.stop()
    with pytest.raises(Interrupted):
        trainer.train_epoch(members, [np.arange(len(scale.lengths), dtype=np.int32)] * len(members))
    with pytest.raises(Interrupted):
        trainer.evaluate(members, "valid")
    np.testing.assert_array_equal(np.concatenate(state(members)), np.concatenate(before))
    assert not any(member.epoch for member in members)


def test_what_cannot_be_compiled_is_named(engine: Engine) -> None:
    with pytest.raises(UserError, match="W_z is float16"):
        params = {name: torch.zeros(*shape).half() for name, shape in get("rnn").parameters(2, 3).items()}
        engine.unroll(get("rnn"), {"W_z": params["W"], **params}, torch.zeros(1, 1, 2).float())
    with pytest.raises(UserError, match="loss=hinge: expected one of bernoulli"):
        engine.compile(get("rnn"), "float32", "hinge", rules.update(rules.DEFAULT, {"lr": 0.1, "momentum": 0.5}))
