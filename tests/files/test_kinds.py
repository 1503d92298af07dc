"""Names in files must never change; kernels come back from their names."""

import numpy as np
import pytest

from jaxnn import kde
from jaxnn.files import kinds

# What older files say.  Add to this list, and never take anything from it.
NAMES = {
    *("gmm.GMM", "gmm.Full", "gmm.Tied", "gmm.Diag", "gmm.Spherical", "gmm.Eigen"),
    *("gmm.Ellipsoid", "gmm.Factors", "gmm.BayesGMM", "gmm.Dirichlet", "gmm.StickBreaking"),
    *("kde.KDE", "kde.Bounded", "kde.Classes", "mlp.Dense", "mlp.Maxout", "neuron.Neuron"),
    *("mlp.Residual", "mlp.Stack"),
    *("perceptron.Perceptron", "rbm.Bernoulli", "rbm.Gaussian", "train.Standardiser"),
    *("mdn.MDN", "gmm.Unconstrained"),
}


def test_names_in_files_stay():
    assert set(kinds.KINDS) >= NAMES


@pytest.mark.parametrize("kernel", [*kde.KERNELS.values(), kde.student_t(4)], ids=lambda k: k.name)
@pytest.mark.parametrize("form", ["radial", "product"])
def test_kernels_come_back_from_their_names(kernel, form):
    static = kinds.STATICS["kde.Kernel"]
    given = kde.fit(np.eye(2), bandwidth=1.0, kernel=kernel, form=form).kernel
    assert static.read(static.write(given)) == given
