"""Where the engine says what it does."""

from __future__ import annotations

import logging
from typing import Final, TypeAlias

__all__ = ["ENGINE_LOGGER", "RunLogger"]

#: A logger, or one that adds to each line which run it belongs to.
RunLogger: TypeAlias = "logging.Logger | logging.LoggerAdapter[logging.Logger]"

ENGINE_LOGGER: Final = logging.getLogger("qcsc_prefect.engine")
