"""Every tolerance of the suite, with the reason for its size."""

import numpy as np

EPS32 = float(np.finfo(np.float32).eps)

# Refined coordinates agree with the float64 oracle within
#     REFERENCE * eps32 * (1 + |step|) / |smallest eigenvalue of the log Hessian|.
# With 2.5 this is below 1e-4 px wherever the eigenvalue is at least 0.01 and the step at most
# 2 px. The largest value found is 1.6 for kernels up to 17, and 2.1 for a kernel of 37.
REFERENCE = 2.5

# decode against get_final_preds on the same maps, in px.
SAME_MATHEMATICS = 1e-5

# decode(encode(c)) against c, in px, for sigma 1.5 to 6 and kernel 11, (k - 1) / 2 + 3 px or more
# from the edges; and for sigma 1.5 and the default kernel of 5.
ROUND_TRIP, ROUND_TRIP_NARROW = 5e-4, 2.2e-3

# Blurred values against OpenCV, in units of the largest magnitude of the map.
BLUR = {np.dtype("float32"): 4e-7, np.dtype("float64"): 1e-14}

# One program against another of the same mathematics (eager, jit, vmap, sharded), in px.
COMPILED = 1e-6

# Derivatives against central differences in float64, relative.
GRADIENT = 1e-4

# A published rule against its original implementation, in px, wherever the smallest eigenvalue of
# the log Hessian is at least 0.01 and the step at most 2 px. The largest difference found is 5e-5.
# The originals compute in float32 too.
HOME = 1e-4
WELL_CONDITIONED = {"eigenvalue": 0.01, "step": 2.0}

# A blob in a photo, cropped, found, drawn in a map, decoded and mapped back, in image px. The
# largest error found is 0.003, from the bilinear crop.
CROP = 0.02
