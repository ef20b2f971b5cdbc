"""What is done about an order when nobody waits any more."""

from orders.models import Order
from pgtasks import Backoff, Fail, task


@task(retry=Backoff(first=5, longest=3600))
def pack(*, order: int) -> None:
    """Pack an order."""
    try:
        found = Order.objects.get(pk=order)
    except Order.DoesNotExist:
        raise Fail("the order is gone") from None
    found.packed = True
    found.save()
    print(f"packed order {order} for {found.customer}")
