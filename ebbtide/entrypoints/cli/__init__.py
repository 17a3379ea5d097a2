"""The command line. Heavy imports load only in the command that needs them."""

import atexit
import gc

# Loading modules makes some hundred thousand objects, none of them garbage: a collector
# that looks through them every 700 takes a tenth of a short command's time.
gc.set_threshold(50_000)
# At its end too: Python would look through them twice more, and find nothing.
atexit.register(gc.freeze)

from ebbtide.entrypoints.cli.main import main  # noqa: E402 - only from here on it counts

__all__ = ["main"]
