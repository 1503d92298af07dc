"""The same verbs over more than memory, one device or one machine: `scale.gmm.fit` is `gmm.fit`.

Rows come from a `Source` (files, any iterable of batches, arrays), are shared by the devices of a
mesh, and each process of a job brings its own.  `Saving` names the folder from which a long fit
goes on after whatever broke it off.
"""

from jaxnn.scale import gmm, kde, train
from jaxnn.scale.checkpoints import Checkpoints, OtherRun
from jaxnn.scale.meshes import mesh
from jaxnn.scale.processes import join, leave
from jaxnn.scale.readers import npy, parquet
from jaxnn.scale.resumable import Preempted, Saving, run
from jaxnn.scale.rowwise import by_rows
from jaxnn.scale.sources import Source, arrays, batches, shuffled
from jaxnn.scale.supervisor import supervise
from jaxnn.scale.sweeps import sweep
from jaxnn.scale.train import data_parallel, feed

__all__ = [
    "Checkpoints",
    "OtherRun",
    "Preempted",
    "Saving",
    "Source",
    "arrays",
    "batches",
    "by_rows",
    "data_parallel",
    "feed",
    "gmm",
    "join",
    "kde",
    "leave",
    "mesh",
    "npy",
    "parquet",
    "run",
    "shuffled",
    "supervise",
    "sweep",
    "train",
]
