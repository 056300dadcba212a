"""Orders with psycopg: the order and its job in one transaction, then the shipment and the job's completion in one.

    python3 orders.py place 17                          prints the job's id
    python3 orders.py ship job_01… 1882419200000001     ships what a worker leased

The database is that of PGHOST, PGUSER, PGDATABASE and their like. Needs `pip install 'psycopg[binary]'`.
"""

import json
import sys

import psycopg


def in_transaction(connection, work, tries=5):
    """Transactions that were in each other's way are run again from their beginning."""
    for attempt in range(1, tries + 1):
        try:
            with connection.transaction():
                return work(connection)
        except (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected):
            if attempt == tries:
                raise


def place(connection, order):
    connection.execute("INSERT INTO orders (id) VALUES (%s)", [order])
    options = {"key": f"ship-{order}"}
    row = connection.execute(
        "SELECT onefold.add(%s, %s::json, %s::jsonb)",
        ["shipping", json.dumps({"order_id": order}), json.dumps(options)],
    ).fetchone()
    return row[0]["id"]


def ship(connection, job, token):
    connection.execute("INSERT INTO shipments (job) VALUES (%s)", [job])
    row = connection.execute("SELECT onefold.complete(%s, %s, %s::json)", [job, token, '{"parcels": 1}']).fetchone()
    return row[0]["state"]


def main(command, *rest):
    with psycopg.connect(autocommit=True) as connection:
        if command == "place":
            print(in_transaction(connection, lambda tx: place(tx, int(rest[0]))))
        else:
            print(in_transaction(connection, lambda tx: ship(tx, rest[0], int(rest[1]))))


try:
    main(*sys.argv[1:])
except psycopg.Error as error:
    # OF001: the lease is lost, another worker has the job. The shipment was rolled back.
    print(error.sqlstate, error.diag.message_primary, error.diag.message_hint, file=sys.stderr)
    sys.exit(1)
