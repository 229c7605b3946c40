"""Sky tests compare with PySM3, whose compilation by numba would take longer than all of them."""

import os

os.environ.setdefault("NUMBA_DISABLE_JIT", "1")
