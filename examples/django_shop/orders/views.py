"""What the web asks for."""

from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from orders.models import Order
from orders.tasks import pack


@csrf_exempt
@require_POST
def place_order(request: HttpRequest) -> HttpResponse:
    """Store an order and have it packed: both, or none of it."""
    try:
        with transaction.atomic():
            order = Order.objects.create(customer=request.POST["customer"])
            pack.defer(pack.args(order=order.pk), job_key=f"pack:{order.pk}", connection=connection)
            if "@" not in order.customer:
                raise ValueError(f"{order.customer!r} is no address")
    except ValueError as error:
        return HttpResponseBadRequest(str(error))
    return HttpResponse(f"order {order.pk} is placed", status=201)
