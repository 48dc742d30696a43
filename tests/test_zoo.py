"""The cells of docs/zoo.md, each against its equations written out again in NumPy from the paper, against the package
`torchrecurrent` where that has it, and on the compiled engines."""

import re
import time
import typing
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from search import cells, engines, unroll
from search.base.randomness import epoch_order, initial_normal
from search.cells import Cell
from search.cells.draws import uniform
from search.tasks import Task
from tests.conftest import assert_same_state, make_member
from tests.contract import TOLERANCE, ZOO, Scale, assert_unrolls_like, make_engine
from tests.cuda_emulator import installed

Values = dict[str, np.ndarray]
Statement = Callable[[Values, Values, np.ndarray, int], Values]  # of parameters, past state, x and t: the state at t

ROOT = Path(__file__).parents[1]
N_INPUTS, N_UNITS, N_STEPS = 3, 6, 12
TIMES = {"cornn": {"dt": 0.042, "gamma": 2.7, "epsilon": 4.7}, "unicornn": {"dt": 0.19, "alpha": 30.65}}


@pytest.fixture(autouse=True)
def fresh_numbers() -> None:
    torch.manual_seed(time.time_ns() % 2**31)
    print("torch seed:", torch.initial_seed())


def sigma(v: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-v))


def softplus(v: np.ndarray) -> np.ndarray:
    return np.logaddexp(0.0, v)


def mut1(p: Values, s: Values, x: np.ndarray, t: int) -> Values:
    z = sigma(p["W_z"] @ x + p["b_z"])
    r = sigma(p["W_r"] @ x + p["R_r"] @ s["y"] + p["b_r"])
    return {"y": np.tanh(p["R_h"] @ (r * s["y"]) + np.tanh(p["P"] @ x) + p["b_h"]) * z + s["y"] * (1 - z)}


def mut2(p: Values, s: Values, x: np.ndarray, t: int) -> Values:
    z = sigma(p["W_z"] @ x + p["R_z"] @ s["y"] + p["b_z"])
    r = sigma(p["P"] @ x + p["R_r"] @ s["y"] + p["b_r"])
    return {"y": np.tanh(p["R_h"] @ (r * s["y"]) + p["W_h"] @ x + p["b_h"]) * z + s["y"] * (1 - z)}


def mut3(p: Values, s: Values, x: np.ndarray, t: int) -> Values:
    z = sigma(p["W_z"] @ x + p["R_z"] @ np.tanh(s["y"]) + p["b_z"])
    r = sigma(p["W_r"] @ x + p["R_r"] @ s["y"] + p["b_r"])
    return {"y": np.tanh(p["R_h"] @ (r * s["y"]) + p["W_h"] @ x + p["b_h"]) * z + s["y"] * (1 - z)}


def mgu(p: Values, s: Values, x: np.ndarray, t: int) -> Values:
    """With [h, x] as one vector, as the paper has it."""
    both = {k: np.hstack([p[f"R_{k}"], p[f"W_{k}"]]) for k in "fh"}
    f = sigma(both["f"] @ np.concatenate([s["y"], x]) + p["b_f"])
    h = np.tanh(both["h"] @ np.concatenate([f * s["y"], x]) + p["b_h"])
    return {"y": (1 - f) * s["y"] + f * h}


def g(v: np.ndarray) -> np.ndarray:
    return np.array([u + 0.5 if u >= 0 else sigma(u) for u in v])


def mingru(p: Values, s: Values, x: np.ndarray, t: int) -> Values:
    z = sigma(p["W_z"] @ x + p["b_z"])
    return {"y": (1 - z) * s["y"] + z * g(p["W_h"] @ x + p["b_h"])}


def minlstm(p: Values, s: Values, x: np.ndarray, t: int) -> Values:
    f, i = sigma(p["W_f"] @ x + p["b_f"]), sigma(p["W_i"] @ x + p["b_i"])
    return {"y": f / (f + i) * s["y"] + i / (f + i) * g(p["W_h"] @ x + p["b_h"])}


def indrnn(p: Values, s: Values, x: np.ndarray, t: int) -> Values:
    return {"y": np.maximum(0, p["W"] @ x + p["u"] * s["y"] + p["b"])}


def rnn_diagonal(p: Values, s: Values, x: np.ndarray, t: int) -> Values:
    return {"y": np.tanh(p["W"] @ x + np.diag(p["r"]) @ s["y"] + p["b"])}


def paragru(p: Values, s: Values, x: np.ndarray, t: int) -> Values:
    """The GRU with diagonal matrices."""
    w, r, b = ({k: p[f"{kind}_{k}"] for k in "zrn"} for kind in "Wrb")
    update, reset = (sigma(w[k] @ x + np.diag(r[k]) @ s["y"] + b[k]) for k in "zr")
    return {"y": (1 - update) * s["y"] + update * np.tanh(w["n"] @ x + np.diag(r["n"]) @ (reset * s["y"]) + b["n"])}


def lstm_diagonal(p: Values, s: Values, x: np.ndarray, t: int) -> Values:
    """The LSTM of docs/protocol.md, 1, with diagonal matrices."""
    a = {k: p[f"W_{k}"] @ x + np.diag(p[f"r_{k}"]) @ s["y"] + p[f"b_{k}"] for k in "zifo"}
    i, f = (sigma(a[k] + p[f"p_{k}"] * s["c"]) for k in "if")
    c = np.tanh(a["z"]) * i + s["c"] * f
    return {"y": np.tanh(c) * sigma(a["o"] + p["p_o"] * c), "c": c}


def paralstm(p: Values, s: Values, x: np.ndarray, t: int) -> Values:
    """With the paper's forget gate, which is sigmoid(-v) where the input gate here is sigmoid(v)."""
    f = sigma(-(p["W_i"] @ x + p["r_i"] * s["y"] + p["p_i"] * s["c"] + p["b_i"]))
    c = f * s["c"] + (1 - f) * np.tanh(p["W_z"] @ x + p["r_z"] * s["y"] + p["b_z"])
    o = sigma(p["W_o"] @ x + p["r_o"] * s["y"] + p["p_o"] * c + p["b_o"])
    return {"y": o * np.tanh(c), "c": c}


def ran(p: Values, s: Values, x: np.ndarray, t: int) -> Values:
    i, f = (sigma(p[f"R_{k}"] @ s["y"] + p[f"W_{k}"] @ x + p[f"b_{k}"]) for k in "if")
    c = i * (p["W_z"] @ x) + f * s["c"]
    return {"y": np.tanh(c), "c": c}


def star(p: Values, s: Values, x: np.ndarray, t: int) -> Values:
    k = sigma(p["W_k"] @ x + p["R_k"] @ s["y"] + p["b_k"])
    return {"y": np.tanh((1 - k) * s["y"] + k * np.tanh(p["W_z"] @ x + p["b_z"]))}


def sru(p: Values, s: Values, x: np.ndarray, t: int) -> Values:
    f, r = (sigma(p[f"W_{k}"] @ x + p[f"v_{k}"] * s["c"] + p[f"b_{k}"]) for k in "fr")
    c = f * s["c"] + (1 - f) * (p["W"] @ x)
    return {"y": r * c + (1 - r) * (p["W_h"] @ x) * np.sqrt(3.0), "c": c}


def lem(p: Values, s: Values, x: np.ndarray, t: int) -> Values:
    d, e = (sigma(p[f"R_{k}"] @ s["y"] + p[f"W_{k}"] @ x + p[f"b_{k}"]) for k in "de")
    z = (1 - d) * s["z"] + d * np.tanh(p["R_z"] @ s["y"] + p["W_z"] @ x + p["b_z"])
    return {"y": (1 - e) * s["y"] + e * np.tanh(p["R_y"] @ z + p["W_y"] @ x + p["b_y"]), "z": z}


def cornn(p: Values, s: Values, x: np.ndarray, t: int) -> Values:
    dt, gamma, epsilon = TIMES["cornn"].values()
    drive = np.tanh(p["R"] @ s["y"] + p["Q"] @ s["z"] + p["W"] @ x + p["b"])
    z = s["z"] + dt * drive - dt * gamma * s["y"] - dt * epsilon * s["z"]
    return {"y": s["y"] + dt * z, "z": z}


def unicornn(p: Values, s: Values, x: np.ndarray, t: int) -> Values:
    longest, alpha = TIMES["unicornn"].values()
    dt = longest * (0.5 + 0.5 * np.tanh(p["c"] / 2))
    z = s["z"] - dt * (np.tanh(p["w"] * s["y"] + p["W"] @ x + p["b"]) + alpha * s["y"])
    return {"y": s["y"] + dt * z, "z": z}


def lru(p: Values, s: Values, x: np.ndarray, t: int) -> Values:
    """In complex numbers."""
    size = np.exp(-np.exp(p["nu"]) + 1j * np.exp(p["theta"]))
    state = size * s["state"] + np.exp(p["gamma"]) * ((p["B_u"] + 1j * p["B_v"]) @ x)
    return {"y": ((p["C_u"] - 1j * p["C_v"]) @ state).real + p["D"] @ x, "state": state}


def slstm(p: Values, s: Values, x: np.ndarray, t: int) -> Values:
    """Without the stabiliser: equations 8 to 14 alone."""
    a = {k: p[f"W_{k}"] @ x + p[f"R_{k}"] @ s["y"] + p[f"b_{k}"] for k in "zifo"}
    i, f = np.exp(a["i"]), sigma(a["f"])
    c, n = f * s["c"] + i * np.tanh(a["z"]), f * s["n"] + i
    return {"y": sigma(a["o"]) * c / n, "c": c, "n": n}


def hgrn(p: Values, s: Values, x: np.ndarray, t: int) -> Values:
    f, o = (sigma(p[f"W_{k}"] @ x + p[f"b_{k}"]) for k in "fo")
    a = p["W_h"] @ x + p["b_h"]
    h = f * s["h"] + (1 - f) * a * sigma(a)
    return {"y": h * o, "h": h}


def clockwork(p: Values, s: Values, x: np.ndarray, t: int) -> Values:
    """With one matrix of blocks, zero below its diagonal."""
    group = [4 * unit // N_UNITS for unit in range(N_UNITS)]
    recurrent = np.array([p[f"R_{k}"][unit] for unit, k in enumerate(group)])
    for unit, other in np.ndindex(N_UNITS, N_UNITS):
        if group[other] < group[unit]:
            recurrent[unit, other] = 0
    moved = np.tanh(p["W"] @ x + recurrent @ s["y"] + p["b"])
    return {"y": np.array([moved[unit] if t % 2**k == 0 else s["y"][unit] for unit, k in enumerate(group)])}


def depth_gated(p: Values, s: Values, x: np.ndarray, t: int) -> Values:
    """With diagonal matrices for the paper's vectors."""
    d_p = {k: np.diag(p[f"p_{k}"]) for k in "ifdo"}
    a = {k: p[f"W_{k}"] @ x + p[f"R_{k}"] @ s["y"] + p[f"b_{k}"] for k in "zifo"}
    i, f = (sigma(a[k] + d_p[k] @ s["c"]) for k in "if")
    d = sigma(p["b_d"] + p["W_d"] @ x + d_p["d"] @ s["c"] + np.diag(p["q_d"]) @ s["c_below"])
    c = d * s["c_below"] + f * s["c"] + i * np.tanh(a["z"])
    return {"y": sigma(a["o"] + d_p["o"] @ c) * np.tanh(c), "c": c}


def grid(p: Values, s: Values, x: np.ndarray, t: int) -> Values:
    """The LSTM of the paper's equation, twice, of both hidden vectors as one."""
    both = np.concatenate([x, s["h"]])

    def transform(memory: np.ndarray, end: str) -> tuple[np.ndarray, np.ndarray]:
        u, f, o, z = (np.hstack([p[f"W_{k}{end}"], p[f"R_{k}{end}"]]) @ both + p[f"b_{k}{end}"] for k in "ufoz")
        memory = sigma(f) * memory + sigma(u) * np.tanh(z)
        return np.tanh(sigma(o) * memory), memory

    (h, c), (y, m) = transform(s["c"], ""), transform(s["m_below"], "d")
    return {"y": y, "h": h, "c": c, "m": m}


def layer_norm(p: Values, s: Values, x: np.ndarray, t: int) -> Values:
    """With the four gates as one vector, as the paper has them."""

    def norm(v: np.ndarray, gain: np.ndarray, bias: np.ndarray | float = 0.0) -> np.ndarray:
        return gain * (v - v.mean()) / np.sqrt(v.var() + 1e-5) + bias

    kinds = ("W", "R", "g_x", "g_y", "b")
    w, r, of_x, of_y, b = (np.concatenate([p[f"{kind}_{k}"] for k in "zifo"]) for kind in kinds)
    z, i, f, o = np.split(norm(w @ x, of_x) + norm(r @ s["y"], of_y) + b, 4)
    c = sigma(f) * s["c"] + sigma(i) * np.tanh(z)
    return {"y": sigma(o) * np.tanh(norm(c, p["g_c"], p["b_c"])), "c": c}


PAPERS: dict[str, Statement] = {
    each.__name__: each
    for each in (mut1, mut2, mut3, mgu, mingru, minlstm, indrnn, rnn_diagonal, paragru, lstm_diagonal, paralstm, ran)
}
PAPERS |= {each.__name__: each for each in (star, sru, lem, cornn, unicornn, lru, slstm, hgrn, clockwork, layer_norm)}
DEEP: dict[str, Statement] = {each.__name__: each for each in (depth_gated, grid)}  # which read the layer below
DEEP["grid_tied"] = grid
PAPERS |= DEEP


def drawn(cell: Cell) -> tuple[Values, np.ndarray, np.ndarray]:
    """Parameters, x [T, M], and what the reference engine makes of them, [T, N]."""
    rng = np.random.default_rng()
    p = {name: rng.normal(0, 0.7, shape) for name, shape in cell.parameters(N_INPUTS, N_UNITS).items()}
    x = rng.normal(0, 1.5, (N_STEPS, N_INPUTS))
    params = {name: torch.tensor(value) for name, value in p.items()}
    return p, x, unroll(cell, params, torch.tensor(x)[:, None], "reference")[:, 0].numpy()


def assert_equal(got: np.ndarray, expected: np.ndarray) -> None:
    error = np.abs(got - expected).max() / np.abs(expected).max()
    print(f"relative error: {error:.1e}")
    assert error <= 1e-10


@pytest.mark.parametrize("name", ZOO)
def test_a_cell_follows_its_paper(name: str) -> None:
    p, x, y = drawn(cells.get(name, **TIMES.get(name, {})))
    state: Values = defaultdict(lambda: np.zeros(N_UNITS))
    expected = []
    for t, heard in enumerate(x):
        state |= PAPERS[name](p, state, heard, t)
        expected.append(state["y"])
    assert_equal(y, np.array(expected))


@pytest.mark.parametrize("name", ["mingru", "minlstm"])
def test_the_recurrence_of_a_minimal_cell_equals_the_papers_sum_of_logarithms(name: str) -> None:
    """Appendix B: log y is a running log-sum-exp, for all steps at once."""
    p, x, y = drawn(cells.get(name))
    a = {k.removeprefix("b_"): x @ p[k.replace("b_", "W_")].T + p[k] for k in p if k.startswith("b_")}
    if name == "mingru":
        log_kept, log_new = -softplus(a["z"]), -softplus(-a["z"])
    else:
        difference = softplus(-a["f"]) - softplus(-a["i"])
        log_kept, log_new = -softplus(difference), -softplus(-difference)
    log_candidate = np.where(a["h"] >= 0, np.log(np.maximum(a["h"], 0) + 0.5), -softplus(-a["h"]))
    kept = np.cumsum(log_kept, axis=0)
    assert_equal(y, np.exp(kept + np.logaddexp.accumulate(log_new + log_candidate - kept, axis=0)))


# Of cells that `torchrecurrent` has too: its class, what it is made with, and of our parameters, side by side, each of
# its tensors; a dot is a block of zeros. In its LEM, y hears z of the step before, and in the paper's that of this one.
PEERS: dict[str, tuple[str, Mapping[str, object], dict[str, str]]] = {
    "mut1": ("MUT1Cell", {}, dict(weight_ih="W_z W_r P", weight_hh="R_r R_h", bias_ih="b_z b_r .", bias_hh=". b_h")),
    "mut2": ("MUT2Cell", {}, dict(weight_ih="W_z P W_h", weight_hh="R_z R_r R_h", bias_ih="b_z b_r b_h")),
    "mut3": ("MUT3Cell", {}, dict(weight_ih="W_z W_r W_h", weight_hh="R_z R_r R_h", bias_ih="b_z b_r b_h")),
    "mgu": ("MGUCell", {}, dict(weight_ih="W_f W_h", weight_hh="R_f R_h", bias_ih="b_f b_h")),
    "indrnn": ("IndRNNCell", {"nonlinearity": "relu"}, dict(weight_ih="W", vector_u="u", bias_ih="b")),
    "ran": ("RANCell", {}, dict(weight_ih="W_z W_i W_f", weight_hh="R_i R_f", bias_ih="b_i b_f")),
    "star": ("STARCell", {}, dict(weight_ih="W_z W_k", weight_hh="R_k", bias_ih="b_z b_k")),
    "cornn": (
        "coRNNCell",
        TIMES["cornn"],
        dict(weight_ih="W", weight_hh="R", weight_ch="Q", bias_ih="b"),
    ),
    "unicornn": (
        "UnICORNNCell",
        TIMES["unicornn"],
        dict(weight_ih="W", weight_hh="w", weight_ch="c", bias_ih="b"),
    ),
}


@pytest.mark.parametrize("name", PEERS)
def test_a_cell_equals_that_of_torchrecurrent(name: str) -> None:
    torchrecurrent = pytest.importorskip(
        "torchrecurrent", reason="needs torchrecurrent, as by pip install odyssey[dev]"
    )
    p, x, y = drawn(cells.get(name, **TIMES.get(name, {})))
    kind, options, tensors = PEERS[name]
    peer = getattr(torchrecurrent, kind)(N_INPUTS, N_UNITS, dtype=torch.float64, **options)
    assert {each for names in tensors.values() for each in names.split()} - {"."} == p.keys()
    zeros = np.zeros(N_UNITS)
    with torch.no_grad():
        for tensor in [*peer.parameters(), *peer.buffers()]:
            tensor.zero_()
        for tensor, names in tensors.items():
            value = np.concatenate([zeros if each == "." else p[each] for each in names.split()])
            getattr(peer, tensor).copy_(torch.tensor(value))
        state, outputs = None, []
        for heard in torch.tensor(x):
            state = peer(heard, state)
            outputs.append(state[0] if isinstance(state, tuple) else state)
    assert_equal(y, torch.stack(outputs).numpy())


@pytest.mark.usefixtures("fresh_cache")
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", ZOO)
def test_a_cell_unrolls_on_the_cpu_like_the_reference(name: str, dtype: str) -> None:
    reference = engines.choose("reference", "cpu")
    assert_unrolls_like(make_engine("cpu"), reference, cells.get(name), n_units=19, n_steps=9, dtype=dtype)


@pytest.mark.usefixtures("fresh_cache")
@pytest.mark.skipif(not installed(), reason="needs g++, as by apt-get install g++, and an x86-64 processor")
@pytest.mark.parametrize("name", ZOO)
def test_a_cell_unrolls_on_cuda_like_the_reference(name: str) -> None:
    reference = engines.choose("reference", "cpu")
    assert_unrolls_like(make_engine("cuda"), reference, cells.get(name), n_units=5, n_steps=5, dtype="float64")


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_cache")
@pytest.mark.parametrize("engine", ["cpu", pytest.param("cuda", marks=pytest.mark.slow)])
def test_every_cell_trains_like_the_reference(engine: str) -> None:
    """From its own initial values, on sizes that engines pad."""
    if engine != "cpu" and not installed():
        pytest.skip("needs g++, as by apt-get install g++, and an x86-64 processor")
    scale = Scale.of(engine)
    task = scale.task(bidirectional=True)
    ours, theirs = ([make_member(task, name, 5, k, "float64", lr=1e-3) for k, name in enumerate(ZOO)] for _ in "ab")
    rows = [
        scale.curves(each, task, members, "float64")
        for each, members in ((make_engine(engine), ours), (engines.choose("reference", "cpu"), theirs))
    ]
    assert np.isfinite(rows[0]).all()
    np.testing.assert_allclose(*rows, rtol=1e-9)
    assert_same_state(ours, theirs, 1e-9, scale.epochs)


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_cache")
@pytest.mark.parametrize("engine", ["cpu", "cuda"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_cells_that_read_the_layer_below_train_like_the_reference(engine: str, bidirectional: bool) -> None:
    if engine != "cpu" and not installed():
        pytest.skip("needs g++, as by apt-get install g++, and an x86-64 processor")
    scale = Scale.of(engine)
    task = scale.task(bidirectional=bidirectional)
    sizes = [(name, n_layers, n) for name in DEEP for n_layers, n in ((2, 9), (3, 5), (2, 17))]
    rows = []
    for each in (make_engine(engine), engines.choose("reference", "cpu")):
        members = [
            make_member(task, name, n, k, "float64", n_layers=n_layers, skip=n_layers == 3)
            for k, (name, n_layers, n) in enumerate(sizes)
        ]
        rows.append((scale.curves(each, task, members, "float64", threads=2), members))
    (a, ours), (b, theirs) = rows
    np.testing.assert_allclose(a, b, rtol=1e-9)
    assert_same_state(ours, theirs, 1e-9, scale.epochs)


@pytest.mark.parametrize("name", DEEP)
def test_a_cell_reads_the_layer_below(name: str) -> None:
    """A network of three layers, by the equations of each, as the reference trains them."""
    scale = Scale.of("cpu")
    task = scale.task()
    member = make_member(task, name, N_UNITS, 3, "float64", n_layers=3, input_noise=0.0)
    member.weights[:] = np.random.default_rng(5).normal(0.0, 0.5, len(member.weights))
    named, network = member.network.unpack(member.weights), member.network
    total = 0.0
    for x, targets in zip(task.splits["valid"].inputs, task.splits["valid"].targets, strict=True):
        lower: list[Values] = []
        for prefix in ("", "2.", "2." if name == "grid_tied" else "3."):
            own = {key: named[prefix + key] for key in network.cell.parameters(1, 1)}
            heard = [below["y"] for below in lower] or list(x.astype(float))
            lower = stacked(DEEP[name], own, heard, lower)
        z = np.array([state["y"] for state in lower]) @ named["W_out"].T + named["b_out"]
        total += float((softplus(z) - targets * z).sum())
    engine = engines.choose("reference", "cpu")
    found = engine.trainer(task, "float64", 1).evaluate([member], "valid")[0]
    np.testing.assert_allclose(found, total / task.splits["valid"].n_predicted, rtol=1e-10)


def stacked(statement: Statement, p: Values, xs: list[np.ndarray], lower: list[Values]) -> list[Values]:
    """The states of a layer over the one whose states are `lower`, if there is one."""
    state: Values = defaultdict(lambda: np.zeros(N_UNITS))
    states = []
    for t, x in enumerate(xs):
        below = lower[t] if lower else {}
        state = state | statement(p, state | {f"{key}_below": value for key, value in below.items()}, x, t)
        states.append(state)
    return states


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_cache")
def test_every_cell_learns(echo: Task) -> None:
    """To repeat the input of the step before, in a few epochs better than any constant answer could."""
    settings = dict(lr=0.01, momentum=0.9, input_noise=0.0)
    members = [
        make_member(echo, name, 12, k, "float32", **settings | ({"n_layers": 2, "lr": 0.1} if name in DEEP else {}))
        for k, name in enumerate(ZOO)
    ]
    trainer = make_engine("cpu").trainer(echo, "float32", 1)
    for epoch in range(50):
        order = epoch_order(0, epoch, len(echo.splits["train"].inputs))
        losses = trainer.train_epoch(members, [order] * len(members)).losses
    told = np.concatenate(echo.splits["train"].targets).mean(axis=0)
    constant = -(told * np.log(told) + (1 - told) * np.log(1 - told)).sum()
    assert (losses < 0.99 * constant).all(), (constant, dict(zip(ZOO, losses, strict=True)))


def test_the_page_has_every_cell_with_its_parameters() -> None:
    page = (ROOT / "docs" / "zoo.md").read_text()
    told = dict(re.findall(r"^\| `(\w+)` \|.*\| (\d*NM .*) \|$", page, flags=re.MULTILINE))
    assert told.keys() >= set(ZOO) and "vanilla" in told
    for name, formula in told.items():
        found = re.fullmatch(r"(\d*)NM \+ (?:(\d*)N² \+ )?(\d*)N", formula)
        assert found, formula
        inputs, recurrent, vectors = (0 if text is None else int(text or 1) for text in found.groups())
        shapes = cells.get(name).parameters(7, 5).values()
        assert sum(int(np.prod(shape)) for shape in shapes) == 35 * inputs + 25 * recurrent + 5 * vectors, name


def test_the_experiment_has_every_cell() -> None:
    variants = yaml.safe_load((ROOT / "configs" / "experiment" / "zoo.yaml").read_text())["variants"]
    assert set(variants) >= {*ZOO, "vanilla", "gru", "rnn", "irnn"} - DEEP.keys() and variants[0] == "vanilla"


def test_the_factorial_has_every_toggle_of_the_paper_with_all_its_values() -> None:
    space = yaml.safe_load((ROOT / "configs" / "experiment" / "factorial.yaml").read_text())["space"]
    hints = typing.get_type_hints(cells.LSTM)
    for name in set(cells.toggles(cells.LSTM)) - {"recurrence", "forget_bias"}:
        assert set(space[name]["values"]) == set(typing.get_args(hints[name]) or (True, False)), name


def test_cells_that_studies_know_are_as_they_were() -> None:
    """Their equations and their initial values, with every toggle that came later at its default."""
    known = {
        "cifg": "2cd23178e03aa18a",
        "fgr": "a5df810efc021ec6",
        "gru": "98c52f14441cd4da",
        "irnn": "b03215e885960b66",
        "nfg": "339cb12e38bb5858",
        "niaf": "7d69234a449c3ff1",
        "nig": "d7d0a0c1d560885f",
        "noaf": "5eeef87869ba8ef9",
        "nog": "fb477b8c484b625c",
        "np": "9036f70e18f89cc6",
        "rnn": "d6d03c3cfdf81a68",
        "vanilla": "8bbfba77273d65c9",
        "vanilla_bias1": "b992508f1fe6278a",
    }
    assert {name: cells.get(name).fingerprint for name in known} == known


def started(name: str, **toggles: float) -> Values:
    """The initial values of a layer of 400 units that hears 30 numbers."""
    cell = cells.get(name, **toggles)
    shapes = cell.parameters(30, 400)
    return {key: cell.initial_value(key, initial_normal(1, key, shape)) for key, shape in shapes.items()}


def test_draws_from_the_uniform_distribution_are_uniform() -> None:
    values = np.sort(uniform(initial_normal(3, "", (10_000,)), -2.0, 3.0))
    np.testing.assert_allclose(values, np.linspace(-2.0, 3.0, 10_000), atol=0.1)
    assert values[0] >= -2.0 and values[-1] <= 3.0


def test_initial_values_are_those_of_the_papers() -> None:
    assert (started("indrnn")["u"] >= 0).all() and started("indrnn")["u"].std() > 0.25
    assert all(np.abs(value).max() <= 1 / 20 and value.std() > 0.025 for value in started("lem").values())
    assert np.abs(started("cornn")["W"]).max() <= 30**-0.5 and np.abs(started("cornn")["R"]).max() <= 1 / 20
    unicornn = started("unicornn")
    assert np.abs(unicornn["c"]).max() <= 0.1 and (unicornn["w"] >= 0).all() and not unicornn["b"].any()
    lru = started("lru", r_min=0.4, r_max=0.9, max_phase=1.0)
    size, phase = np.exp(-np.exp(lru["nu"])), np.exp(lru["theta"])
    assert size.min() >= 0.4 and size.max() <= 0.9 and phase.min() > 0 and 0.9 < phase.max() <= 1.0
    np.testing.assert_allclose(np.sort(size**2), np.linspace(0.16, 0.81, 400), atol=0.002)
    np.testing.assert_allclose(np.exp(lru["gamma"]) ** 2, 1 - size**2)
    np.testing.assert_allclose([lru["B_u"].std(), lru["C_v"].std()], [60**-0.5, 1 / 20], rtol=0.05)


def test_the_stabiliser_of_the_slstm_keeps_gates_that_no_number_could_hold() -> None:
    """Pre-activations of thousands, whose exponential overflows or vanishes, at the first step and later."""
    cell = cells.get("slstm")
    params = {name: torch.zeros(shape) for name, shape in cell.parameters(1, 1).items()}
    params["W_i"][:] = params["W_z"][:] = 1.0
    x = torch.tensor([-3000.0, 2000.0, -3000.0, 2100.0])[:, None, None]
    y = unroll(cell, params, x, "reference")[:, 0, 0]
    torch.testing.assert_close(y, torch.tensor([-0.5, 0.5, 0.5, 0.5]))
