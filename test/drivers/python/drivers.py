"""What Python programs do with port 8123: clickhouse-connect and its DB-API insert and query. A line for each step."""

import datetime
import sys

import clickhouse_connect
import clickhouse_connect.dbapi
import pandas
import pyarrow
import sqlalchemy

host, port = sys.argv[1].split(":")


def step(name, run):
    try:
        print(name, run())
    except Exception as error:  # each step is judged by its line
        print(name, "failed:", type(error).__name__, str(error).split("\n")[0])


def insert(client, table):
    day = datetime.datetime(2026, 1, 1)
    rows = [[i, f"r\n\n\t{i}", day, ["a", "b"], None if i % 2 else 1.5, "lc"] for i in range(1000)]
    written = client.insert(table, rows, column_names=["id", "s", "d", "a", "n", "lc"]).written_rows
    stored = client.query(f"SELECT * FROM {table} ORDER BY id").result_rows
    assert stored[7] == (7, "r\n\n\t7", day, ["a", "b"], None, "lc", {"x": 1}), stored[7]
    return written, len(stored)


def insert_frame(client, table):
    frame = pandas.DataFrame({"id": [5000, 5001], "s": ["x", "y"], "n": [1.0, None]})
    client.insert_df(table, frame)
    return list(client.query_df(f"SELECT s FROM {table} WHERE id >= 5000 ORDER BY id")["s"])


def insert_arrow(client, table):
    client.insert_arrow(table, pyarrow.table({"id": pyarrow.array([6000], pyarrow.uint64()), "s": ["arrow"]}))
    return client.query_arrow(f"SELECT s FROM {table} WHERE id = 6000").to_pydict()


def execute_many():
    cursor = clickhouse_connect.dbapi.connect(host=host, port=int(port)).cursor()
    cursor.executemany("INSERT INTO py_True (id, s) VALUES", [(7001, "a"), (7002, "b")])
    cursor.execute("SELECT s FROM py_True WHERE id > 7000 ORDER BY id")
    return cursor.fetchall()


def alchemy():
    engine = sqlalchemy.create_engine(f"clickhousedb://{host}:{port}/default")
    with engine.begin() as connection:
        table = sqlalchemy.Table("py_True", sqlalchemy.MetaData(), autoload_with=connection)
        connection.execute(sqlalchemy.insert(table), [{"id": 8001, "s": "a"}, {"id": 8002, "s": "b"}])
        rows = connection.execute(sqlalchemy.select(table.c.s).where(table.c.id > 8000).order_by(table.c.id))
        names = sqlalchemy.inspect(engine).get_table_names()
        return [row.s for row in rows], "py_True" in names, [column.name for column in table.columns][:2]


def streamed():
    """More than is held back, block by block."""
    client = clickhouse_connect.get_client(host=host, port=int(port))
    with client.query_row_block_stream("SELECT number, toString(number) FROM numbers(1000000)") as blocks:
        return sum(len(block) for block in blocks)


for compress in [True, False, "lz4", "zstd", "gzip"]:
    client = clickhouse_connect.get_client(host=host, port=int(port), compress=compress)
    table = f"py_{compress}"
    columns = "id UInt64, s String, d DateTime, a Array(String), n Nullable(Float64), lc LowCardinality(String)"
    client.command(f"CREATE OR REPLACE TABLE {table} ({columns}, m Map(String, Int32) DEFAULT map('x', 1)) ORDER BY id")
    step(f"{compress} insert", lambda: insert(client, table))
    step(f"{compress} insert_df", lambda: insert_frame(client, table))
    step(f"{compress} insert_arrow", lambda: insert_arrow(client, table))
step("DB-API executemany", execute_many)
step("SQLAlchemy", alchemy)
step("stream", streamed)
