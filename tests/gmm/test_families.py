"""Every name of the table against its definition, written down independently in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

from jaxnn import gmm
from jaxnn.gmm.covariances import Diag, Full, Spherical, Tied
from jaxnn.gmm.families import family_of
from jaxnn.gmm.family import Covariances, Family, NamedFamily, Whitened

K, D, N = 3, 3, 40
MCLUST = [name for name in gmm.COVARIANCES if name.isupper()]
rng = np.random.default_rng(3)
X = rng.normal(size=(N, D)) @ rng.normal(size=(D, D))
RESP = rng.dirichlet([6.0, 2.0, 0.5], N).T
MEANS = rng.normal(size=(K, D))
RIDGE = np.array([0.1, 0.2, 0.3])


def sizes(name: str, k: int, d: int) -> tuple[int, int, int]:
    """How many numbers describe volumes, shapes and orientations."""
    of = {"E": 1, "V": k, "I": 0}
    volume, shape, orientation = (of[letter] for letter in name)
    return volume, shape * (d - 1), orientation * (d * (d - 1) // 2)


def dense(name: str, theta: np.ndarray, k: int = K, d: int = D) -> np.ndarray:
    """λ_k D_k A_k D_kᵀ of free numbers: logarithms, and Cayley's rotations of skew matrices."""
    volumes, shapes, angles = np.split(theta, np.cumsum(sizes(name, k, d))[:2])
    logs = np.zeros((1, d))
    if shapes.size:
        logs = shapes.reshape(-1, d - 1)
        logs = np.c_[logs, -logs.sum(1)]
    logs = np.broadcast_to(logs + volumes[:, None], (k, d))
    covariances = np.exp(logs)[:, :, None] * np.eye(d)
    if angles.size:
        skew = np.zeros((angles.size * 2 // (d * (d - 1)), d, d))
        skew[:, *np.tril_indices(d, -1)] = angles.reshape(len(skew), -1)
        skew = skew - skew.transpose(0, 2, 1)
        turn = np.linalg.solve(np.eye(d) + skew, np.eye(d) - skew)
        covariances = turn @ covariances @ turn.transpose(0, 2, 1)
    return covariances


def member(name: str, seed: int = 0, k: int = K, d: int = D) -> np.ndarray:
    local = np.random.default_rng(seed)
    return dense(name, local.normal(size=sum(sizes(name, k, d))), k, d)


@pytest.fixture(params=[name for name in MCLUST if not isinstance(gmm.COVARIANCES[name], type)])
def name(request):
    """One that `test_covariances` has not under another name."""
    return request.param


def test_one_class_for_one_model():
    """The names that both tables have mean the same class; each entry keeps the protocol."""
    same = {"VVV": Full, "EEE": Tied, "VVI": Diag, "VII": Spherical}
    assert all(gmm.COVARIANCES[name] is family for name, family in same.items())
    assert len(MCLUST) == 14
    assert all(isinstance(entry, NamedFamily) for entry in gmm.COVARIANCES.values())
    assert len({hash(entry) for entry in gmm.COVARIANCES.values()}) == 14
    assert isinstance(gmm.factors(2), Family)


@pytest.mark.parametrize("name", MCLUST)
def test_number_of_parameters_is_the_dimension(name):
    """Oracle: the rank of the Jacobian of all covariances in free numbers, at a random place."""
    for d in (2, 3, 4):
        theta = rng.normal(size=sum(sizes(name, K, d)))
        columns = [
            (dense(name, theta + h, K, d) - dense(name, theta - h, K, d)).ravel()
            for h in 1e-5 * np.eye(len(theta))
        ]
        start = lambda v: gmm.COVARIANCES[name].from_variances(v, K)
        cov = jax.eval_shape(start, np.ones(d))
        assert cov.n_parameters(K, d) == np.linalg.matrix_rank(np.array(columns), tol=1e-8)


def test_given_covariances_come_back(name):
    """Oracle: SciPy's density, and the covariances themselves; S undoes the whitening."""
    matrices, owner = member(name), np.arange(N) % K
    family = gmm.COVARIANCES[name]

    @jax.jit
    def use(matrices: jax.Array, means: jax.Array, x: jax.Array) -> tuple[jax.Array, ...]:
        cov = family.from_covariances(matrices)
        assert isinstance(cov, Covariances)
        y = cov.whitener(means)(x)
        back = cov.colour(jnp.asarray(owner), y[owner, :, np.arange(N)])
        log_density = -0.5 * jnp.sum(y * y, axis=1) - cov.log_det(means)[:, None]
        variances = jnp.array([0.5, 2.0, 3.5])
        start = family.from_variances(variances, K).covariances(means)
        return cov.covariances(means), log_density, back, start

    found, log_density, back, start = use(matrices, MEANS, X)
    np.testing.assert_allclose(found, matrices, atol=1e-10)
    np.testing.assert_allclose(back + MEANS[owner], X, atol=1e-10)
    for k in range(K):
        oracle = multivariate_normal(MEANS[k], matrices[k]).logpdf(X)
        np.testing.assert_allclose(log_density[k] - D / 2 * np.log(2 * np.pi), oracle, rtol=1e-9)
    # And a start is diagonal, with one size for all features where the shape is the identity.
    wanted = np.eye(D) * 2.0 if name[1] == "I" else np.diag([0.5, 2.0, 3.5])
    np.testing.assert_allclose(start, np.stack([wanted] * K), atol=1e-12)


def objective(covariances: np.ndarray, counts: np.ndarray, scatter: np.ndarray) -> float:
    """Minus twice the expected log-likelihood a row, without its constant."""
    terms = np.linalg.slogdet(covariances)[1]
    terms = terms + np.trace(np.linalg.solve(covariances, scatter), axis1=1, axis2=2)
    return float(counts @ terms / counts.sum())


def test_update_is_the_best_of_the_family(name):
    """Oracle: BFGS over free numbers, on covariances about the new means plus the ridge.

    The M-step starts elsewhere, in coordinates that belong to another mixture; where it is
    iterative, no step of it may be a step back.
    """
    counts = RESP.sum(1)
    means = RESP @ X / counts[:, None]
    centred = X[None] - means[:, None]
    scatter = np.einsum("kn,kni,knj->kij", RESP, centred, centred) / counts[:, None, None]
    scatter = scatter + np.diag(RIDGE)

    @jax.jit
    def step(cov):
        y = cov.whitener(jnp.asarray(MEANS))(jnp.asarray(X))
        shift = jnp.einsum("kdc,kc->kd", y, RESP) / counts[:, None]
        sums = Whitened(cov.second(y, jnp.asarray(RESP)), counts, shift, counts > 0)
        new = cov.update(sums, jnp.asarray(RIDGE))
        return new, new.covariances(jnp.asarray(MEANS))

    cov = jax.jit(lambda v: gmm.COVARIANCES[name].from_variances(v, K))(np.array([0.5, 1.0, 4.0]))
    values = []
    for _ in range(1 if name in ("EII", "EEI", "EVI", "EEV", "EVV") else 60):
        cov, matrices = step(cov)
        values.append(objective(np.asarray(matrices), counts, scatter))
    assert np.all(np.diff(values) < 1e-12)

    volumes, shapes, angles = sizes(name, K, D)
    inverse = np.repeat([-1.0, 1.0], [volumes + shapes, angles])  # Σ⁻¹ has the negative logarithms

    def loss(theta: np.ndarray) -> float:
        terms = np.sum(dense(name, theta * inverse) * scatter, axis=(1, 2)) + D * theta[:volumes]
        return float(counts @ terms / counts.sum())

    best = minimize(loss, 0.1 * rng.normal(size=len(inverse)), options={"gtol": 1e-6})
    np.testing.assert_allclose(values[-1], best.fun, atol=1e-7)


@pytest.mark.parametrize("name", ["EVE", "VEE"])
def test_covariances_of_another_family_are_refused(name):
    """Oracle: the definition; a member rounded to four digits is one still."""
    valid = jax.jit(gmm.COVARIANCES[name].valid)
    assert valid(np.round(member(name), 4))
    assert not valid(member("VVV"))
    assert not valid(-member(name))


def test_the_door_names_the_family():
    with pytest.raises(ValueError, match="positive definite and of the family VEE"):
        gmm.from_covariances(np.ones(K) / K, MEANS, member("VVV"), family="VEE")


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("wrong", ["VEX", None, 3])
def test_an_unknown_family_is_named(wrong):
    with pytest.raises(ValueError, match=f"gmm.init: unknown family {wrong!r}.*choose from full"):
        family_of("gmm.init", wrong)
