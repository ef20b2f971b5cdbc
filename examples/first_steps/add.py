"""Adds jobs, in each of the ways there are in Python."""

from tasks import charge, greet, send_receipt

from pgtasks import current_app


def place_order(customer: str) -> None:
    """Store an order and add its jobs, in one transaction: all of it is there afterwards, or nothing."""
    with current_app().connection() as connection, connection.transaction():
        row = connection.execute("insert into first_steps.orders (customer) values (%s) returning id", [customer])
        [(order,)] = row.fetchall()
        send_receipt.defer({"order": order, "to": customer}, connection=connection)
        charge.defer({"order": order}, connection=connection)
        if "@" not in customer:
            raise ValueError(f"{customer!r} is no address")
        print(f"placed order {order}")


def main() -> None:
    """Add the jobs."""
    with current_app().connection() as connection:
        connection.execute("create schema if not exists first_steps")
        connection.execute(
            "create table if not exists first_steps.orders"
            " (id integer generated always as identity primary key, customer text not null)"
        )

    # One job.
    job = greet.defer({"name": "Ada"})
    print(f"added job {job.id} of task {job.task}")

    # With the data that they are about, or not at all.
    place_order("ada@example.com")
    try:
        place_order("mallory")
    except ValueError as error:
        print(f"neither an order nor a job, because {error}")

    # With a key: a job that waits is replaced by a new one with the same key, so only the third is left.
    for version in (1, 2, 3):
        greet.defer({"name": f"version {version}"}, job_key="greet:version")

    # Many, with one call.
    jobs = greet.defer_many([{"name": name} for name in ("Barbara", "Grace", "Radia")])
    print(f"added {len(jobs)} jobs at once")


if __name__ == "__main__":
    main()
