// What DBeaver and JDBC programs do with port 8123, with the defaults of clickhouse-jdbc, V2 and V1: connect, metadata,
// statements, a prepared query and a batch. Prints a line for each step.
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Timestamp;
import java.util.Arrays;

public class Drivers {
  interface Step {
    Object run() throws Exception;
  }

  static void step(String name, Step step) {
    String said;
    try {
      said = String.valueOf(step.run());
    } catch (Throwable error) {
      said = "failed: " + error + (error.getCause() == null ? "" : " caused by " + error.getCause());
    }
    System.out.println(name + " " + said.split("\n")[0]);
  }

  static int count(ResultSet rows) throws SQLException {
    int count = 0;
    while (rows.next()) count++;
    return count;
  }

  public static void main(String[] arguments) throws Exception {
    for (String version : new String[] {"v2", "v1"}) {
      String url = "jdbc:clickhouse://" + arguments[0] + "/default" + (version.equals("v1") ? "?clickhouse.jdbc.v1=true" : "");
      try (Connection connection = DriverManager.getConnection(url)) {
        steps(version, connection);
      }
    }
  }

  static void steps(String version, Connection connection) {
    String table = "java_" + version;
    step(version + " schemas", () -> count(connection.getMetaData().getSchemas()) >= 0);
    step(version + " tables", () -> count(connection.getMetaData().getTables(null, "system", "%", null)) > 10);
    step(version + " columns", () -> count(connection.getMetaData().getColumns(null, "system", "tables", "%")) > 10);
    step(version + " types", () -> count(connection.getMetaData().getTypeInfo()) > 10);
    step(version + " create", () -> connection.createStatement().executeUpdate("CREATE OR REPLACE TABLE " + table
        + " (id UInt64, s String, d DateTime, n Nullable(Float64), z UInt8 DEFAULT 7) ENGINE = MergeTree ORDER BY id"));
    step(version + " insert", () -> connection.createStatement().executeUpdate("INSERT INTO " + table + " (id, s) VALUES (1, 'one')"));
    step(version + " batch", () -> batch(connection, table));
    step(version + " query", () -> query(connection, table));
    step(version + " large", () -> large(connection));
    step(version + " error", () -> {
      try {
        return connection.createStatement().executeQuery("SELECT * FROM nowhere");
      } catch (SQLException error) {
        return error.getErrorCode();
      }
    });
  }

  static int batch(Connection connection, String table) throws SQLException {
    try (PreparedStatement insert = connection.prepareStatement("INSERT INTO " + table + " (id, s, d, n) VALUES (?, ?, ?, ?)")) {
      for (int id = 10; id < 110; id++) {
        insert.setLong(1, id);
        insert.setString(2, "row\n\n" + id);
        insert.setTimestamp(3, new Timestamp(1700000000000L));
        insert.setDouble(4, id);
        insert.addBatch();
      }
      return Arrays.stream(insert.executeBatch()).sum();
    }
  }

  static int query(Connection connection, String table) throws SQLException {
    try (PreparedStatement select = connection.prepareStatement("SELECT id, s, n, z FROM " + table + " WHERE id >= ? ORDER BY id")) {
      select.setLong(1, 10);
      int right = 0;
      ResultSet rows = select.executeQuery();
      while (rows.next()) {
        long id = rows.getLong(1);
        if (rows.getString(2).equals("row\n\n" + id) && rows.getDouble(3) == id && rows.getInt(4) == 7) right++;
      }
      return right;
    }
  }

  static long large(Connection connection) throws SQLException {
    long sum = 0;
    ResultSet rows = connection.createStatement().executeQuery("SELECT number, toString(number) FROM numbers(300000)");
    while (rows.next()) sum += rows.getLong(1);
    return sum;
  }
}
