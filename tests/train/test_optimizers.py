"""Oracles: the update rules of the papers in NumPy float64, and minima known in closed form."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from refusals import refused

from jaxnn.train import FLAVOURS, OPTIMIZERS, optimizer, schedule

CURVATURE = np.array([1.0, 4.0, 10.0])
START = np.array([1.0, -2.0, 0.5])
ALL = [(flavour, name) for flavour, table in FLAVOURS.items() for name in table]
# Every number of every optimizer, none at its default.
OTHER = {
    "b1": 0.5, "b2": 0.9, "decay": 0.6, "eps": 0.05, "eps_root": 0.02, "initial_scale": 0.3,
    "initial_accumulator_value": 0.2, "lr_decay": 0.1, "momentum": 0.3, "momentum_decay": 0.5,
    "rho": 0.7,
}  # fmt: skip


def trace(m, direction, momentum, nesterov=False):
    """Polyak's heavy ball: the sum of all directions, each times momentum to its age."""
    if momentum is None:
        return direction
    m["v"] = momentum * m.get("v", 0) + direction
    return direction + momentum * m["v"] if nesterov else m["v"]


def sgd(w, g, m, t, lr, momentum=None):
    return w - lr * trace(m, g, momentum)


def momentum(w, g, m, t, lr, momentum=0.9):
    return w - lr * trace(m, g, momentum)


def nesterov(w, g, m, t, lr, momentum=0.9):
    return w - lr * trace(m, g, momentum, nesterov=True)


def adagrad(w, g, m, t, lr, initial_accumulator_value=0.1, eps=1e-7):
    m["s"] = m.get("s", initial_accumulator_value) + g**2
    return w - lr * g / np.sqrt(m["s"] + eps)


def rmsprop(w, g, m, t, lr, decay=0.9, eps=1e-8, initial_scale=0.0, momentum=None):
    m["s"] = decay * m.get("s", initial_scale) + (1 - decay) * g**2
    return w - lr * trace(m, g / np.sqrt(m["s"] + eps), momentum)


def adadelta(w, g, m, t, lr, rho=0.9, eps=1e-6):
    m["g2"] = rho * m.get("g2", 0) + (1 - rho) * g**2
    step = np.sqrt(m.get("x2", 0) + eps) / np.sqrt(m["g2"] + eps) * g
    m["x2"] = rho * m.get("x2", 0) + (1 - rho) * step**2
    return w - lr * step


def moments(g, m, b1, b2):
    m["m"] = b1 * m.get("m", 0) + (1 - b1) * g
    m["v"] = b2 * m.get("v", 0) + (1 - b2) * g**2
    return m["m"], m["v"]


def adam(w, g, memory, t, lr, b1=0.9, b2=0.999, eps=1e-8, eps_root=0.0):
    m, v = moments(g, memory, b1, b2)
    return w - lr * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t) + eps_root) + eps)


def adamax(w, g, memory, t, lr, b1=0.9, b2=0.999, eps=1e-8):
    m, _ = moments(g, memory, b1, b2)
    memory["u"] = np.maximum(b2 * memory.get("u", 0), np.abs(g) + eps)
    return w - lr / (1 - b1**t) * m / memory["u"]


def nadam(w, g, memory, t, lr, b1=0.9, b2=0.999, eps=1e-8, eps_root=0.0):
    m, v = moments(g, memory, b1, b2)
    ahead = b1 * m / (1 - b1 ** (t + 1)) + (1 - b1) * g / (1 - b1**t)
    return w - lr * ahead / (np.sqrt(v / (1 - b2**t) + eps_root) + eps)


def amsgrad(w, g, memory, t, lr, b1=0.9, b2=0.999, eps=1e-8, eps_root=0.0):
    m, v = moments(g, memory, b1, b2)
    memory["max"] = np.maximum(memory.get("max", 0), v / (1 - b2**t))
    return w - lr * (m / (1 - b1**t)) / (np.sqrt(memory["max"] + eps_root) + eps)


def adamw(w, g, memory, t, lr, weight_decay=1e-4, **numbers):
    return adam(w, g, memory, t, lr, **numbers) - lr * weight_decay * w


def lion(w, g, m, t, lr, b1=0.9, b2=0.99, weight_decay=1e-3):
    old = m.get("m", 0)
    m["m"] = b2 * old + (1 - b2) * g
    return w - lr * (np.sign(b1 * old + (1 - b1) * g) + weight_decay * w)


def torch_adagrad(w, g, m, t, lr, lr_decay=0.0, initial_accumulator_value=0.0, eps=1e-10):
    m["s"] = m.get("s", initial_accumulator_value) + g**2
    return w - lr / (1 + (t - 1) * lr_decay) * g / (np.sqrt(m["s"]) + eps)


def torch_rmsprop(w, g, m, t, lr, decay=0.99, eps=1e-8, momentum=None):
    m["s"] = decay * m.get("s", 0) + (1 - decay) * g**2
    return w - lr * trace(m, g / (np.sqrt(m["s"]) + eps), momentum)


def torch_nadam(w, g, memory, t, lr, b1=0.9, b2=0.999, eps=1e-8, momentum_decay=4e-3):
    m, v = moments(g, memory, b1, b2)
    mu = lambda t: b1 * (1 - 0.5 * 0.96 ** (t * momentum_decay))
    memory["product"] = memory.get("product", 1) * mu(t)
    ahead = mu(t + 1) * m / (1 - memory["product"] * mu(t + 1))
    ahead = ahead + (1 - mu(t)) * g / (1 - memory["product"])
    return w - lr * ahead / (np.sqrt(v / (1 - b2**t)) + eps)


def torch_amsgrad(w, g, memory, t, lr, b1=0.9, b2=0.999, eps=1e-8):
    m, v = moments(g, memory, b1, b2)
    memory["max"] = np.maximum(memory.get("max", 0), v)
    return w - lr / (1 - b1**t) * m / (np.sqrt(memory["max"] / (1 - b2**t)) + eps)


SAME = {f.__name__: f for f in (sgd, momentum, nesterov, adadelta, adam, adamax)}
RULES = {
    "optax": SAME | {f.__name__: f for f in (adagrad, rmsprop, nadam, amsgrad, adamw, lion)},
    "torch": SAME
    | {
        "adagrad": torch_adagrad,
        "rmsprop": torch_rmsprop,
        "nadam": torch_nadam,
        "amsgrad": torch_amsgrad,
        "adamw": partial(adamw, weight_decay=0.01),
    },
}


def quadratic(w):
    return 0.5 * jnp.sum(CURVATURE.astype(w.dtype) * w**2)


def rosenbrock(w):
    return (1 - w[0]) ** 2 + 100 * (w[1] - w[0] ** 2) ** 2


def walk(loss, transformation, start, steps):
    """The parameters after each step, and the last state."""

    def step(carry, _):
        w, state = carry
        value, gradient = jax.value_and_grad(loss)(w)
        updates, state = transformation.update(
            gradient, state, w, value=value, grad=gradient, value_fn=loss
        )
        w = optax.apply_updates(w, updates)
        return (w, state), w

    (_, state), path = jax.lax.scan(step, (start, transformation.init(start)), None, length=steps)
    return path, state


@partial(jax.jit, static_argnames=("name", "flavour", "steps"))
def descend(name, start, learning_rate, *, flavour="optax", steps=50, **options):
    transformation = optimizer(name, learning_rate, flavour=flavour, **options)
    return walk(quadratic, transformation, start, steps)


@partial(jax.jit, static_argnames=("name", "flavour", "loss", "steps"))
def best_of(name, flavour, loss, start, rates, *, steps):
    """The lowest value after so many steps at any of the rates, each falling to 0 but where a
    line search does that."""

    def one(rate):
        rule = rate if name == "lbfgs" else schedule("cosine", rate, steps=steps)
        path, _ = walk(loss, optimizer(name, rule, flavour=flavour), start, steps)
        return loss(path[-1])

    return jnp.nanmin(jax.vmap(one)(rates))


def by_hand(rule, rate, steps, **options):
    w, memory, path = START, {}, []
    for t in range(1, steps + 1):
        w = rule(w, CURVATURE * w, memory, t, rate, **options)
        path.append(w)
    return np.array(path)


def test_every_optimizer_has_an_oracle():
    assert set(RULES["optax"]) | {"lbfgs"} == set(OPTIMIZERS)
    assert set(RULES["torch"]) == set(FLAVOURS["torch"])
    assert set(OTHER) == {
        k for table in FLAVOURS.values() for e in table.values() for k in e.numbers
    }


@pytest.mark.parametrize(("flavour", "name"), [pair for pair in ALL if pair[1] != "lbfgs"])
def test_fifty_steps_are_those_of_the_paper(flavour, name):
    """Oracle: the rule of the paper, or of torch's documentation, in NumPy, by default and with
    every number another."""
    rule = RULES[flavour][name]
    path, _ = descend(name, START, 0.03, flavour=flavour)
    np.testing.assert_allclose(path, by_hand(rule, 0.03, 50), rtol=1e-11, atol=1e-14)
    options = {option: OTHER[option] for option in FLAVOURS[flavour][name].numbers}
    path, _ = descend(name, START, 0.03, flavour=flavour, **options)
    np.testing.assert_allclose(path, by_hand(rule, 0.03, 50, **options), rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize(("flavour", "name"), ALL)
def test_g1_learning_rate_zero_changes_nothing(flavour, name):
    """Invariant: bit for bit; 0 is legal, as warm-ups start there."""
    path, _ = descend(name, START, 0.0, flavour=flavour)
    np.testing.assert_array_equal(path, np.tile(START, (50, 1)))


@pytest.mark.parametrize(("flavour", "name"), ALL)
def test_it_finds_the_minimum_of_a_quadratic(flavour, name):
    """Oracle: the minimum is 0."""
    rates = np.array([0.03, 0.1, 0.3, 1.0, 3.0])
    steps = 30 if name == "lbfgs" else 500
    assert float(best_of(name, flavour, quadratic, START, rates, steps=steps)) < 1e-4


@pytest.mark.parametrize(("flavour", "name"), ALL)
def test_it_finds_the_minimum_of_rosenbrock(flavour, name):
    """Oracle: the minimum is 0, at the end of a valley whose curvatures are 1000 and 0.4."""
    rates = np.array([1e-3, 0.01, 0.1, 1.0])
    steps = {"lbfgs": 60, "sgd": 20_000}.get(name, 3000)
    found = best_of(name, flavour, rosenbrock, np.array([-1.0, 1.0]), rates, steps=steps)
    assert float(found) < (1e-20 if name == "lbfgs" else 1e-2)  # it is Newton's method in the end


@pytest.mark.parametrize(("flavour", "name"), ALL)
def test_float32_stays_float32_and_the_state_keeps_its_shape(flavour, name):
    """Invariant: parameters and state have the same shapes and dtypes before and after a step."""
    start = jnp.asarray(START, jnp.float32)
    options = {k: jnp.asarray(OTHER[k]) for k in FLAVOURS[flavour][name].numbers}  # float64
    transformation = optimizer(name, jnp.asarray(0.1), flavour=flavour, l2=jnp.ones(()), **options)
    before = transformation.init(start)
    path, after = jax.eval_shape(lambda w: walk(quadratic, transformation, w, 3), start)
    assert path.dtype == jnp.float32
    kind = lambda tree: jax.tree.map(lambda a: (a.shape, a.dtype), tree)
    assert kind(before) == kind(after)
    assert jnp.float64 not in {leaf.dtype for leaf in jax.tree.leaves(after)}


def test_g5_a_sweep_over_every_number_compiles_once():
    """Oracle: the rule in NumPy for each member; the body is traced once for all of them."""
    traces = []

    @jax.jit
    @jax.vmap
    def paths(learning_rate, steps, numbers):
        traces.append(1)
        rule = schedule("cosine", learning_rate, steps=steps)
        return walk(quadratic, optimizer("adam", rule, **numbers), START, 5)[0]

    def member(rate, steps, numbers):
        w, memory, path = START, {}, []
        adams = {k: numbers[k] for k in ("b1", "b2", "eps", "eps_root")}
        for t in range(1, 6):
            g = np.clip(CURVATURE * w, -numbers["clip_value"], numbers["clip_value"])
            g = g * min(1, numbers["clip_norm"] / np.linalg.norm(g)) + 2 * numbers["l2"] * w
            now = rate * (1 + np.cos(np.pi * (t - 1) / steps)) / 2
            w = adam(w, g, memory, t, now, **adams) - now * numbers["weight_decay"] * w
            path.append(w)
        return path

    draw = np.random.default_rng(0)
    names = ("b1", "b2", "eps", "eps_root", "clip_value", "clip_norm", "l2", "weight_decay")
    for _ in range(2):
        rates, steps = draw.uniform(0.05, 0.5, 3), draw.uniform(5, 9, 3)
        numbers = {name: draw.uniform(0.1, 0.9, 3) for name in names}
        numbers |= {"clip_value": draw.uniform(2, 6, 3), "clip_norm": draw.uniform(1, 9, 3)}
        found = paths(rates, steps, numbers)
        for i in range(3):
            alone = member(rates[i], steps[i], {name: numbers[name][i] for name in numbers})
            np.testing.assert_allclose(found[i], alone, rtol=1e-12)
    assert len(traces) == 1


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_another_learning_rate_compiles_nothing(name):
    """Invariant: the compiled program of other rates is used again, and the paths differ."""
    descend(name, START, 0.03)
    before = descend._cache_size()
    first, second = (descend(name, START, rate)[0][0] for rate in (0.1, 0.2))
    assert descend._cache_size() == before
    assert bool(jnp.all(first != second))


W = {"weight": np.array([[1.0, -2.0]]), "bias": np.array([3.0])}
G = {"weight": np.array([[0.3, 0.4]]), "bias": np.array([-0.5])}


@pytest.mark.parametrize(("flavour", "everything"), [("optax", False), ("torch", True)])
def test_decoupled_decay_is_taken_off_the_weights(flavour, everything):
    """Oracle: w - rate·(step + decay·w); the bias decays in torch alone, which decays all."""
    first = lambda rate, decay: jax.tree.map(np.asarray, _once(
        optimizer("adamw", rate, flavour=flavour, weight_decay=decay)))  # fmt: skip
    plain, decayed = first(0.1, 0.0), first(0.1, 0.5)
    for name, decays in {"weight": True, "bias": everything}.items():
        fall = 0.1 * 0.5 * W[name] if decays else 0
        np.testing.assert_allclose(decayed[name], plain[name] - fall, rtol=1e-14)


def _once(transformation, w=W, g=G):
    return transformation.update(g, transformation.init(w), w)[0]


@pytest.mark.parametrize(("flavour", "everything"), [("optax", False), ("torch", True)])
def test_sgd_with_decay_is_sgd_with_penalty(flavour, everything):
    """Oracle: -rate·(g + decay·w); for plain descent both kinds are the same."""
    coupled = _once(optimizer("sgd", 0.1, flavour=flavour, weight_decay=0.5))
    penalised = _once(optimizer("sgd", 0.1, flavour=flavour, l2=0.25))
    for name, decays in {"weight": True, "bias": everything}.items():
        expected = -0.1 * (G[name] + (0.5 * W[name] if decays else 0))
        np.testing.assert_allclose(coupled[name], expected, rtol=1e-14)
    np.testing.assert_allclose(penalised["weight"], coupled["weight"], rtol=1e-14)
    np.testing.assert_allclose(penalised["bias"], -0.1 * G["bias"], rtol=1e-14)


def test_lbfgs_goes_down_the_loss_with_its_penalty():
    """Oracle: of ½Σc(w-1)² + λΣw² the minimum is at c/(c + 2λ), in closed form."""
    loss = lambda w: quadratic(w - 1)
    path, _ = jax.jit(lambda l2: walk(loss, optimizer("lbfgs", 1.0, l2=l2), START, 12))(0.7)
    np.testing.assert_allclose(path[-1], CURVATURE / (CURVATURE + 1.4), rtol=1e-7)
    below = [float(loss(w) + 0.7 * np.sum(w**2)) for w in np.asarray(path)]
    assert all(np.diff(below) <= 1e-15)


def test_g8_eps_zero_leaves_an_entry_without_gradient_where_it_is():
    """Oracle: 0 for a gradient of 0, never 0/0; and no step beyond ten rates where even the
    square of the gradient underflows, in single and in half precision, eps given or traced."""
    have_eps = [(f, n) for f, n in ALL if "eps" in FLAVOURS[f][n].numbers]

    @jax.jit
    def first(g, eps):
        return [_once(optimizer(n, 1.0, flavour=f, eps=e), g, g)
                for f, n in have_eps for e in (0.0, eps)]  # fmt: skip

    for dtype, small in ((jnp.float32, 1e-25), (jnp.float16, 1e-5)):
        for step in first(jnp.array([0.0, small, 1.0], dtype), jnp.zeros((), dtype)):
            assert step.dtype == dtype
            assert float(step[0]) == 0
            assert bool(jnp.all(jnp.abs(step) < 10.1))
    half = jnp.array([0.0, 1.0], jnp.float16)
    assert float(_once(optimizer("adam", 1.0), half, half)[0]) == 0  # where 1e-8 is 0


def test_a_function_of_the_count_is_a_learning_rate():
    """Oracle: rates 1, 1/2, 1/3 in closed form."""
    transformation = optimizer("sgd", lambda count: 1 / (count + 1.0))
    state = transformation.init(START)
    for rate in (1, 1 / 2, 1 / 3):
        step, state = transformation.update(CURVATURE, state, START)
        np.testing.assert_allclose(step, -rate * CURVATURE, rtol=1e-14)
    assert int(state.count) == 3


def test_ones_own_optimizer_stands_where_a_name_stands():
    """Oracle: optax itself; the loss reaches a transformation that wants it."""
    own = partial(optax.adabelief, nesterov=True)
    path, state = walk(quadratic, optimizer(own, 0.1, b1=0.5, eps=1e-8), jnp.asarray(START), 5)
    expected, _ = walk(quadratic, optax.with_extra_args_support(
        optax.adabelief(0.1, b1=0.5, eps=1e-8, nesterov=True)), jnp.asarray(START), 5)  # fmt: skip
    np.testing.assert_allclose(path, expected, rtol=1e-14)
    assert state.optimizer == "adabelief"
    short = partial(optax.lbfgs, memory_size=1)
    path, _ = walk(quadratic, optimizer(short, 1.0), jnp.asarray(START), 12)
    assert float(quadratic(path[-1])) < 1e-4


BAD = {
    "G2 negative": (("adam", -0.1), {}, ValueError, "learning_rate must be non-neg.*got -0.1"),
    "G3 NaN": (("adam", float("nan")), {}, ValueError, "learning_rate must be.*finite, got nan"),
    "G4 inf": (("adam", float("inf")), {}, ValueError, "learning_rate must be.*finite, got inf"),
    "string": (("adam", "0.1"), {}, TypeError, "learning_rate must be a number, got '0.1'"),
    "None": (("adam", None), {}, TypeError, "learning_rate must be a number, got None"),
    "vector": (("adam", np.ones(3)), {}, ValueError, r"learning_rate must have shape \(\)"),
    "G11 near": (("adm", 0.1), {}, ValueError, "optimizer 'adm'.*mean 'adam'.*choose.*nadam"),
    "G11 no name": ((3, 0.1), {}, ValueError, "unknown optimizer 3; choose from sgd, momentum"),
    "flavour": (("sgd", 0.1), {"flavour": "keras"}, ValueError, "flavour 'keras'.*optax, torch"),
    "not in torch": (("lion", 0.1), {"flavour": "torch"}, ValueError,
                     "flavour 'torch' has no optimizer 'lion'; choose from sgd"),
    "transformation": ((optax.sgd(0.1), 0.1), {}, TypeError, "a name or a function.*adabelief"),
    "own option": ((optax.noisy_sgd, 0.1), {"b1": 0.1}, TypeError, "take these numbers.*'b1'"),
    "own nothing": ((lambda rate: rate, 0.1), {}, TypeError, "must return an optax.*got float"),
    "unknown option": (("adam", 0.1), {"b3": 0.9}, TypeError, "take 'b3'.*from b1, b2"),
    "no options": (("lbfgs", 1.0), {"b1": 0.9}, TypeError, "lbfgs does not take 'b1'; it has no"),
    "flag": (("rmsprop", 0.1), {"centered": True}, TypeError, "centered must be a number.*True"),
    "bool": (("adam", 0.1), {"b1": True}, TypeError, "b1 must be a number, got True"),
    "function": (("adamw", 0.1), {"b1": len}, TypeError, "b1 must be a number, got <built-in"),
    "G6 beta 1": (("adam", 0.1), {"b1": 1.0}, ValueError, "b1 must be below 1, got 1.0"),
    "G7 beta < 0": (("adam", 0.1), {"b2": -0.1}, ValueError, "b2 must be non-neg.*got -0.1"),
    "G8 eps < 0": (("adam", 0.1), {"eps": -1e-8}, ValueError, "eps must be non-neg.*got -1e-08"),
    "G9 decay < 0": (("adamw", 0.1), {"weight_decay": -1.0}, ValueError, "weight_decay.*-1.0"),
    "G9 l2 < 0": (("adam", 0.1), {"l2": -1.0}, ValueError, "l2 must be non-negative.*-1.0"),
    "G10 momentum": (("momentum", 0.1), {"momentum": 1.5}, ValueError, "momentum must.*1.5"),
    "G12 no steps": (("sgd", schedule("cosine", 0.1)), {}, ValueError, "have its steps.*None"),
    "G29 zero": (("sgd", 0.1), {"clip_norm": 0.0}, ValueError, "clip_norm must be positive.*0.0"),
    "G29 below": (("sgd", 0.1), {"clip_value": -1}, ValueError, "clip_value must be positive.*-1"),
    "G29 search": (("lbfgs", 1.0), {"clip_norm": 1.0}, ValueError, "clip_norm must be left out"),
}  # fmt: skip


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_clear_message(case):
    """Oracle: the message names the argument, what was given, and what to do."""
    args, options, error, message = BAD[case]
    refused(lambda: optimizer(*args, **options), error, message, "train.optimizer: ")
