"""`python manage.py demo`: places orders by the web, and runs a worker."""

import subprocess
import sys
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand
from django.test import Client

from orders.models import Order


class Command(BaseCommand):
    """Shows all parts at work."""

    help = "Place orders by the web, and run a worker until all is packed."

    def handle(self, **_options: Any) -> None:
        """Do it."""
        self._pgtasks("migrate")
        call_command("migrate", verbosity=0)
        for customer in ("ada@example.com", "mallory"):
            response = Client().post("/orders", {"customer": customer})
            self._say(f"POST /orders customer={customer}: {response.status_code} {response.content.decode()}")
        self._pgtasks("worker", "shop.worker", "--once", "--log-level", "error")
        self._say(f"orders: {Order.objects.count()}, of which packed: {Order.objects.filter(packed=True).count()}")

    def _pgtasks(self, *arguments: str) -> None:
        subprocess.run([sys.executable, "-m", "pgtasks", *arguments], check=True)

    def _say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()
