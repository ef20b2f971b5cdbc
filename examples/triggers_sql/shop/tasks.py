"""The work. Jobs name rows by their ids, so that what is done goes by what the rows hold when it is done."""

from pgtasks import JobContext, task


@task
def pack(payload: dict[str, int], ctx: JobContext) -> None:
    """Pack an order."""
    with ctx.connection() as connection:
        query = "select pieces, name from shop.orders o join shop.articles a on a.id = o.article where o.id = %s"
        [(pieces, name)] = connection.execute(query, [payload["order"]])
    print(f"packing order {payload['order']}: {pieces} of {name}")


@task
def reorder(payload: dict[str, int], ctx: JobContext) -> None:
    """Order more of an article, if there is still little of it."""
    with ctx.connection() as connection:
        query = "select name, stock from shop.articles where id = %s and stock < 5"
        for name, stock in connection.execute(query, [payload["article"]]):
            print(f"ordering more of {name}, of which there is {stock}")


@task
def announce(articles: list[int], ctx: JobContext) -> None:
    """Tell of new prices."""
    with ctx.connection() as connection:
        query = "select name, price from shop.articles where id = any(%s) order by name"
        prices = [f"{name} {price}" for name, price in connection.execute(query, [articles])]
    print("new prices:", ", ".join(prices))
