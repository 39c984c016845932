"""Common scores of keypoints: OKS, PCK, PCKh, AUC, EPE and NME.

Every function compares ``coords`` with ``truth``, both ``[..., J, dim]`` in the same pixels, and
returns a mean, by default over the joints. All functions but :func:`oks` take another ``axis``.
``dim`` is 1, 2 or 3; :func:`pckh`, which needs boxes, is only for 2. Three rules hold for all:

- A joint counts if its ``visible`` is above zero and its truth is finite. A joint that does not
  count, even if it is NaN, changes neither the result nor the gradient.
- A mean over no joint is 0, and so is its gradient. To combine means, weight them with
  ``(visible > 0).sum(axis)``, so that a mean over no joint has weight 0. This weight is the only
  difference from a true 0.
- A predicted NaN counts as wrong for PCK and AUC, has similarity 0 for OKS, and gives NaN for EPE
  and NME.

mmpose averages each joint over the instances first, and then averages over the joints: use
``axis=0``, and then the mean over the joints that occur. ``axis=None`` counts all visible joints
of the set equally.

:mod:`dark_jax.skeletons` has the sigmas of COCO's joints, and says which joints of MPII count.

- ``MPII_HEAD``: the head size of MPII, in diagonals of the head's box
"""

from dark_jax._core.namespace import publish
from dark_jax.metrics._correct import MPII_HEAD, auc, pck, pckh
from dark_jax.metrics._error import epe, nme
from dark_jax.metrics._similarity import oks

__all__ = ["MPII_HEAD", "auc", "epe", "nme", "oks", "pck", "pckh"]

publish(globals())
del publish
