"""Arrays by what their numbers are; shapes are said where they are used."""

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Halves = NDArray[np.float16]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
