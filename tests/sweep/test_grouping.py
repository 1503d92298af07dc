"""Oracles: programs for each member of its own, brute force, and the dict that a fit should see."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from refusals import refused

from jaxnn import gmm, sweep
from jaxnn.sweep import Choice, Grid, Product, When, grouping

KEY = jax.random.key(3)
X = jax.random.normal(KEY, (10, 3))


def test_names_that_a_group_lacks_are_not_handed_to_its_fits():
    """Oracle: the dict each fit should see; None that is a value of the axis is handed on."""
    seen = {}

    def fit_one(hp, key):
        seen[hp["rule"]] = {name: hp[name] for name in hp if name not in ("x", "seed")}
        return hp["x"]

    space = Product((Grid({"rule": ["a", "b"], "x": [1.0]}),
                     When("rule", "b", Grid({"how": ["u", None]}))))  # fmt: skip
    sweep.run_groups(fit_one, sweep.sample(KEY, space), KEY, ahead=0)
    assert seen["a"] == {"rule": "a"}
    assert seen["b"] == {"rule": "b", "how": None}


def test_names_may_be_plain_lists():
    """I7: strings in a vmapped axis; oracle: closed form, with vectors beside them."""
    hparams = {"rule": ["bb", "a"], "v": jnp.arange(4.0).reshape(2, 2)}
    fit_one = lambda hp, key: jnp.sum(hp["v"]) * len(hp["rule"])
    assert sweep.run_groups(fit_one, hparams, KEY).results.tolist() == [2, 5]


def test_equal_hashes_do_not_share_a_program():
    """I14: 1, 1.0 and True are equal and hash alike, and are three programs."""
    hparams = sweep.grid(kind=Choice([1, True, 1.0], static=True), x=[0])
    names = {"int": 1, "bool": 2, "float": 3}
    fit_one = lambda hp, key: hp["x"] + names[type(hp["kind"]).__name__]
    for _ in range(2):
        assert sweep.run_groups(fit_one, hparams, KEY).results.tolist() == [1, 2, 3]


def fit_masked(hparams, key, x):
    """Sums over the first `width` of so many random columns: of any program the same."""
    n = hparams["max_width"]
    columns = jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(key, i)))(jnp.arange(n))
    lives = jnp.arange(n) < hparams["width"]
    rows = jnp.where(lives, columns, 0)[None, :] * x[:, None]
    return jnp.sum(rows @ rows.T), jnp.asarray(n)


WIDTHS = sweep.grid(width=[9, 2, 3], seed=range(2))


@pytest.fixture(scope="module")
def own_widths():
    """Every member in a program of its own width."""
    fit = jax.jit(lambda w, key: fit_masked({"width": w, "max_width": w}, key, jnp.ones(4))[0],
                  static_argnums=0)  # fmt: skip
    keys = sweep.member_keys(KEY, WIDTHS)
    return np.stack([fit(w, key) for w, key in zip(WIDTHS["width"].tolist(), keys, strict=True)])


@pytest.mark.parametrize(("seconds", "programs"), [(0.0, [2, 3, 9]), (1e9, [9]), (3e-7, None)])
def test_padded_members_are_the_same_whatever_program_they_share(own_widths, seconds, programs):
    """I3: ragged widths; oracle: a program for each width, and brute force for which pay."""
    x = jnp.ones(4)
    got = sweep.run_groups(fit_masked, WIDTHS, KEY, x, padded=["width"], compile_seconds=seconds)
    np.testing.assert_allclose(got.results[0], own_widths, rtol=1e-12)
    sizes = got.results[1]
    assert bool(jnp.all(sizes >= WIDTHS["width"]))
    if programs is None:
        assert sorted(set(sizes.tolist())) in ([2, 9], [3, 9])
    else:
        assert sorted(set(sizes.tolist())) == programs


def test_pieces_count_often_when_programs_are_chosen():
    """By hand: a product of 64 by 64 in float64 takes 4e-6 s at 2e9 operations a second, less than
    a program, and a hundred of them, which is what a fit in pieces is taken for, more.
    """
    once = lambda hp, key: jnp.sum(jnp.ones((hp["max_n"],) * 2) @ jnp.ones(hp["max_n"])) * hp["n"]
    pieces = toys.TOY._replace(
        init=lambda hp, key: {"w": once(hp, key), "hp": hp},
        advance=lambda state: state | {"w": once(state["hp"], None)},
        score=lambda state: state["w"],
        halted=lambda state: state["w"] > 0,
        result=lambda state: state["w"],
    )
    hparams = {"n": jnp.array([64, 1])}
    keys = sweep.member_keys(KEY, hparams)
    for fit, programs in ((once, 1), (pieces, 2)):
        assert len(grouping.groups_of(fit, hparams, keys, (), ["n"], 1e-4)) == programs


def test_numbers_of_components_in_one_program():
    """Oracle: each mixture fitted alone with its own number of components, none of them dead."""
    x = jnp.concatenate([X, X + 4, 2 * X - 5])
    starts = gmm.init(KEY, x, 4, family="diag")

    def fit_one(hparams, key, x):
        k = hparams["max_k"]
        lives = jnp.arange(k) < hparams["k"]
        mixture = jax.tree.map(lambda a: a[:k], starts)
        weights = jax.nn.log_softmax(jnp.where(lives, mixture.log_weights, -jnp.inf))
        fit = gmm.fit(mixture._replace(log_weights=weights), x, max_steps=20)
        return gmm.log_prob(fit.mixture, x)

    got = sweep.run_groups(fit_one, {"k": jnp.array([1, 4])}, KEY, x, padded=["k"])
    for i, k in enumerate((1, 4)):
        np.testing.assert_allclose(got.results[i], fit_one({"k": k, "max_k": k}, KEY, x), rtol=1e-8)


def test_numbers_of_steps_are_traced_and_need_no_padding():
    """I4: members with steps of their own; oracle: closed form."""
    grow = lambda hp, key: jax.lax.fori_loop(0, hp["steps"], lambda i, a: a * 2, 1)
    hparams = sweep.grid(steps=[0, 3, 10], rule=["a"])
    ignore = lambda hp, key: grow(hp, key) * len(hp["rule"])
    assert sweep.run_groups(ignore, hparams, KEY).results.tolist() == [1, 8, 1024]


# --- bad input --------------------------------------------------------------------------------

ONE = lambda hp, key: hp["x"]
RULES = sweep.grid(rule=["a", "bb"], x=[1.0])
STOP = {"stop": jnp.ones(2, int), "nan_at": jnp.zeros(2, int)}
BY_RULE = lambda hp, key: hp["x"] * len(hp["rule"])
HOLES = {"rule": RULES["rule"], "x": jnp.array([1.0, jnp.nan])}
BAD = {
    "I1 no axes": (ONE, {}, {}, ValueError, "hparams must have at least one axis"),
    "I1 no members": (ONE, {"x": jnp.ones(0)}, {}, ValueError, r"x must have one value.*\(0,\)"),
    "I5 lengths": (
        BY_RULE,
        RULES | {"x": jnp.ones(3)},
        {},
        ValueError,
        "same length, got rule with 2 and x with 3",
    ),
    "I13 lists": (BY_RULE, {"rule": ["u", ["v"]]}, {}, TypeError, "rule must hold numbers.*tuple"),
    "I7 in run": (
        lambda hp, key: sweep.run(BY_RULE, RULES, KEY),
        {"x": jnp.ones(1)},
        {},
        TypeError,
        r"rule must hold numbers, got \['a', 'bb'\]; names and shapes are static.*run_groups",
    ),
    "I6 shapes": (
        lambda hp, key: jnp.zeros(hp["n"]),
        {"n": jnp.array([1, 2])},
        {},
        TypeError,
        "(?s)Shapes must be 1D sequences of concrete values.*sweep.run_groups: hyperparameters are "
        r"traced numbers.*sweep.Choice\(values, static=True\)",
    ),
    "unread": (
        lambda hp, key: hp.get("rate", 1.0) + len(hp["rule"]),
        RULES | {"raet": jnp.ones(2)},
        {},
        ValueError,
        r"unknown hyperparameter 'raet' \(did you mean 'rate'\?\)|unknown hyperparameter 'x'",
    ),
    "lacking": (lambda hp, key: hp["xx"], RULES, {}, ValueError, "reads 'xx'.*did you mean 'x'"),
    "structure": (
        lambda hp, key: [hp["x"]] * len(hp["rule"]),
        RULES,
        {},
        ValueError,
        "same structure.*got 1 arrays with rule='a' and 2 arrays with rule='bb'",
    ),
    "shape": (
        lambda hp, key: {"w": jnp.full(len(hp["rule"]), hp["x"])},
        RULES,
        {},
        ValueError,
        r"got \['w'\] float64\[1\] with rule='a' and \['w'\] float64\[2\] with rule='bb'",
    ),
    "dtype": (
        lambda hp, key: hp["x"].astype(f"float{32 * len(hp['rule'])}"),
        RULES,
        {},
        ValueError,
        r"got result float32\[\] with rule='a' and result float64\[\]",
    ),
    "holes": (
        BY_RULE,
        {"x": jnp.array([1.0, jnp.nan]), "rule": sweep.grid(rule=["a", "a"])["rule"]},
        {},
        ValueError,
        r"x must be a number for all.*NaN for 1 of 2; give When\(..., otherwise",
    ),
    "padded name": (BY_RULE, RULES, {"padded": ["y"]}, ValueError, "unknown padded axis 'y'"),
    "padded kind": (BY_RULE, RULES, {"padded": ["x"]}, TypeError, "x must hold whole numbers"),
    "padded 0": (ONE, {"x": jnp.arange(2)}, {"padded": ["x"]}, ValueError, "x must be at least 1"),
    "ahead": (BY_RULE, RULES, {"ahead": -1}, ValueError, "ahead must be at least 0, got -1"),
    "seconds": (BY_RULE, RULES, {"compile_seconds": -1.0}, ValueError, "compile_seconds must be"),
    "H1": (BY_RULE, RULES, {"key": 0}, TypeError, "key must be a PRNG"),
    "misspelt in pieces": (
        toys.TOY,
        RULES | {"raet": jnp.ones(2), **STOP},
        {"shared": (0.9,)},
        ValueError,
        "fit_one reads 'rate', which hparams lacks.*did you mean 'raet'",
    ),
    "unread in pieces": (
        toys.TOY,
        {"rule": RULES["rule"], "rate": jnp.ones(2), **STOP},
        {"shared": (0.9,)},
        ValueError,
        "unknown hyperparameter 'rule'.*choose from nan_at, rate, stop",
    ),
    "no advance": (
        toys.TOY._replace(advance=None),
        RULES,
        {},
        TypeError,
        "advance must be a function, got NoneType",
    ),
    "no function": (3, RULES, {}, TypeError, "fit_one must be a function, got int"),
    "of run": (BY_RULE, RULES, {"layout": "vmpa"}, ValueError, "did you mean 'vmap'"),
}


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_clear_message(case):
    """Oracle: the message names the argument and what was meant."""
    fit_one, hparams, options, error, message = BAD[case]
    options = dict(options)
    key, shared = options.pop("key", KEY), options.pop("shared", ())
    call = lambda: sweep.run_groups(fit_one, hparams, key, *shared, **options)
    if case.startswith("I6"):  # JAX's own words, in more than one line
        with pytest.raises(error, match=message):
            call()
    else:
        refused(call, error, message, "sweep.")
