"""What pgtasks is measured beside: limits of the database, and other frameworks in their best configuration."""

from benchmarks.peers.bare import BareLoop
from benchmarks.peers.base import Peer, UnavailableError
from benchmarks.peers.celery import Celery
from benchmarks.peers.dramatiq import Dramatiq
from benchmarks.peers.graphile import GraphileDefaults, GraphileWorker
from benchmarks.peers.pgqueuer import PGQueuer
from benchmarks.peers.procrastinate import Procrastinate
from benchmarks.peers.sql_alone import SQLAlone

PEERS: tuple[type[Peer], ...] = (
    SQLAlone,
    BareLoop,
    GraphileWorker,
    GraphileDefaults,
    PGQueuer,
    Procrastinate,
    Celery,
    Dramatiq,
)

__all__ = ["PEERS", "Peer", "UnavailableError"]
