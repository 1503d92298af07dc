"""What is refused; that devices and processes change nothing is in `test_meshes`."""

import numpy as np
import pytest
from refusals import refused

from jaxnn import scale, train

BATCH = train.Batch(np.ones((5, 2), np.float32), np.arange(5))


def test_one_device_is_fed_all_rows_in_their_order():
    turn = scale.feed(scale.arrays(BATCH), batch_size=2)
    for _ in range(2):
        batches = list(turn(0))
        assert [b.weight.tolist() for b in batches] == [[1, 1], [1, 1], [1, 0]]
        assert np.concatenate([b.y for b in batches]).tolist() == [0, 1, 2, 3, 4, 4]
        assert batches[0].weight.dtype == np.float32


@pytest.mark.usefixtures("unchecked_types")
def test_what_does_not_fit_is_refused():
    where = "scale.data_parallel"
    refused(lambda: scale.data_parallel(3, scale.mesh()), TypeError, "a function, got int", where)
    refused(lambda: scale.data_parallel(len, 8), TypeError, "mesh must be a Mesh", where)
    refused(lambda: scale.feed(BATCH, batch_size=0), ValueError, "at least 1, got 0", "scale.feed")
    none = train.Batch(BATCH.x[:0])
    refused(lambda: scale.feed(none, batch_size=2), ValueError, "at least one", "scale.feed")
