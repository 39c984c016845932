"""The scores of the field: OKS, PCK, PCKh, AUC, EPE, NME.

Every function compares ``coords`` with ``truth``, both ``[..., J, dim]`` in the same pixels, and
returns a mean over joints; all but :func:`oks` take the ``axis`` to average over. ``dim`` is 1, 2
or 3; only :func:`pckh`, which has boxes, is for two dimensions alone. Three rules are common to
all:

- A joint counts where ``visible`` is above zero and its truth is finite. Whatever else stands
  there, NaN too, has no part in the result nor in the gradient.
- A mean over no joint is 0, and so is its gradient: in a mean weighted with
  ``(visible > 0).sum(axis)`` it falls away. Only the weight tells it from a true 0.
- A predicted NaN is wrong for PCK and AUC, no likeness at all for OKS, NaN for EPE and NME.

mmpose reports the mean over joints of each joint's mean over instances: average ``axis=0``, then
over the joints that are seen. ``axis=None`` pools: each visible joint of the set counts alike.

The sigmas of COCO's joints, and which of MPII's joints count, are in :mod:`dark_jax.skeletons`.

- ``MPII_HEAD``: MPII's head size, in diagonals of the head's box
"""

from dark_jax._core.namespace import publish
from dark_jax.metrics._correct import MPII_HEAD, auc, pck, pckh
from dark_jax.metrics._error import epe, nme
from dark_jax.metrics._similarity import oks

__all__ = ["MPII_HEAD", "auc", "epe", "nme", "oks", "pck", "pckh"]

publish(globals())
del publish
