"""What is stored."""

from django.db import models


class Order(models.Model):
    """An order of somebody's."""

    customer = models.EmailField()
    packed = models.BooleanField(default=False)
