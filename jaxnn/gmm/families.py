"""The table of covariance families, by name.

Scikit-learn's four names, and the fourteen of mclust (Scrucca et al., 2016, table 3): volume,
shape and orientation of Σ_k = λ_k D_k A_k D_kᵀ, each Equal, Varying or the Identity.  Where both
mean the same covariances, both names mean the same class.
"""

from jaxnn import checks
from jaxnn.gmm.covariances import Diag, Full, Spherical, Tied
from jaxnn.gmm.eigen import EigenFamily
from jaxnn.gmm.ellipsoid import EllipsoidFamily
from jaxnn.gmm.family import Family, NamedFamily

COVARIANCES: dict[str, NamedFamily] = {
    "full": Full,
    "tied": Tied,
    "diag": Diag,
    "spherical": Spherical,
    "EII": EigenFamily("EII"),
    "VII": Spherical,
    "EEI": EigenFamily("EEI"),
    "VEI": EigenFamily("VEI"),
    "EVI": EigenFamily("EVI"),
    "VVI": Diag,
    "EEE": Tied,
    "VEE": EllipsoidFamily("VEE"),
    "EVE": EigenFamily("EVE"),
    "VVE": EigenFamily("VVE"),
    "EEV": EigenFamily("EEV"),
    "VEV": EigenFamily("VEV"),
    "EVV": EllipsoidFamily("EVV"),
    "VVV": Full,
}


def family_of(where: str, family: str | Family) -> Family:
    """Returns the family of that name, or `family` itself if it is one, such as `factors(2)`.

    Raises ValueError for an unknown name or anything else.
    """
    if isinstance(family, Family):
        return family
    checks.in_table(where, "family", family, COVARIANCES)
    return COVARIANCES[family]
