"""The recorder of `pgtasks.testing`, as a plugin of a worker: a module, whose file and hooks come from the environment.

`run_worker` and `start_worker` load it where they are given a `HookRecorder`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Final

from pgtasks.testing.recording import NAME, HookRecorder

FILE: Final = "PGTASKS_PLUGIN_RECORDER__FILE"
HOOKS: Final = "PGTASKS_PLUGIN_RECORDER__HOOKS"

name = NAME
# Which hooks a plugin has is seen when it is registered, before anybody could give it its settings.
_recorder = HookRecorder(json.loads(os.environ.get(HOOKS, "[]")), Path(os.environ.get(FILE, os.devnull)))
globals().update({hook: getattr(_recorder, hook) for hook in {"configure", *_recorder.hooks}})
