"""The PostgreSQL that pgtasks runs by itself when no database is configured (extra `embedded`).

Commands use `acquire`, which starts the project's server or joins the one that runs, and stops it when the last user
has left. `Cluster` is the layer below: one data directory and the server on it.
"""

from pgtasks.embedded.binaries import WAYS_OUT, Binaries, binaries_at, find_binaries
from pgtasks.embedded.cluster import Cluster
from pgtasks.embedded.places import find_project
from pgtasks.embedded.server import Lease, acquire

__all__ = [
    "WAYS_OUT",
    "Binaries",
    "Cluster",
    "Lease",
    "acquire",
    "binaries_at",
    "find_binaries",
    "find_project",
]
