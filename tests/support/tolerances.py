"""Every tolerance of the suite, with the reason for its size."""

import numpy as np

EPS32 = float(np.finfo(np.float32).eps)

# Refined coordinates agree with the float64 oracle within
#     REFERENCE * eps32 * (1 + |step|) / |smallest eigenvalue of the log Hessian|.
# 2.5 keeps that below 1e-4 px wherever the eigenvalue is .01 or more and the step 2 px
# or less; the largest C met is 1.6 for kernels to 17 and 2.1 for 37.
REFERENCE = 2.5

# decode against get_final_preds on the same maps, px.
SAME_MATHEMATICS = 1e-5

# decode(encode(c)) against c, px, every edge (k - 1) / 2 + 3 px away, sigma 1.5 to 6, kernel 11.
# The narrow one is for the default kernel of 5 and sigma 1.5.
ROUND_TRIP, ROUND_TRIP_NARROW = 5e-4, 2.2e-3

# Blurred values against OpenCV, in units of the map's largest magnitude.
BLUR = {np.dtype("float32"): 4e-7, np.dtype("float64"): 1e-14}

# One program against another of the same mathematics (eager, jit, vmap, sharded), px.
COMPILED = 1e-6

# Derivatives against central differences in float64, relative.
GRADIENT = 1e-4

# A published rule against its home, px, wherever the smallest eigenvalue of the log Hessian is
# .01 or more and the step 2 px or less; the largest met is 5e-5. Homes compute in float32 too.
HOME = 1e-4
WELL_CONDITIONED = {"eigenvalue": 0.01, "step": 2.0}

# A blob in a photo, cropped, found, drawn in a map, decoded and mapped back, image px; the
# largest met is .003, from the bilinear crop.
CROP = 0.02
