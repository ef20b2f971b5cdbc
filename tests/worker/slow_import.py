"""An application whose import takes long."""

import os
import time
from pathlib import Path

Path(os.environ["PT_IMPORT_STARTED"]).write_text(str(os.getpid()))
time.sleep(60)
