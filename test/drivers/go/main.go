// What Grafana does with port 8123: clickhouse-go over HTTP pings, inserts and queries with each compression it has.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
)

func main() {
	methods := map[string]clickhouse.CompressionMethod{"none": clickhouse.CompressionNone, "lz4": clickhouse.CompressionLZ4, "zstd": clickhouse.CompressionZSTD, "gzip": clickhouse.CompressionGZIP, "br": clickhouse.CompressionBrotli, "deflate": clickhouse.CompressionDeflate}
	for name, method := range methods {
		if err := run(os.Args[1], name, method); err != nil {
			fmt.Println(name, "failed:", err)
		} else {
			fmt.Println(name, "ok")
		}
	}
}

func run(addr, name string, method clickhouse.CompressionMethod) error {
	ctx := context.Background()
	db := clickhouse.OpenDB(&clickhouse.Options{Protocol: clickhouse.HTTP, Addr: []string{addr}, Auth: clickhouse.Auth{Database: "default", Username: "default"}, Compression: &clickhouse.Compression{Method: method, Level: 3}})
	defer db.Close()
	if err := db.PingContext(ctx); err != nil {
		return fmt.Errorf("ping %w", err)
	}
	table := "go_" + name
	if _, err := db.ExecContext(ctx, "CREATE OR REPLACE TABLE "+table+" (id UInt64, s String, t DateTime64(3), a Array(LowCardinality(String)), n Nullable(Float64), m Map(String, UInt8)) ENGINE = MergeTree ORDER BY id"); err != nil {
		return fmt.Errorf("create %w", err)
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	st, err := tx.PrepareContext(ctx, "INSERT INTO "+table)
	if err != nil {
		return fmt.Errorf("prepare %w", err)
	}
	for i := 0; i < 1000; i++ {
		f := float64(i)
		if _, err := st.ExecContext(ctx, uint64(i), fmt.Sprint("row\n\n", i), time.Unix(1700000000, 0), []string{"a", "b"}, &f, map[string]uint8{"k": 1}); err != nil {
			return fmt.Errorf("append %w", err)
		}
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit %w", err)
	}
	rows, err := db.QueryContext(ctx, "SELECT id, s, t, a, n, m FROM "+table+" WHERE id < $1 ORDER BY id", 500)
	if err != nil {
		return fmt.Errorf("query %w", err)
	}
	n := 0
	for rows.Next() {
		var id uint64
		var s string
		var t time.Time
		var a []string
		var f *float64
		var m map[string]uint8
		if err := rows.Scan(&id, &s, &t, &a, &f, &m); err != nil {
			return fmt.Errorf("scan %w", err)
		}
		if s != fmt.Sprint("row\n\n", id) || len(a) != 2 || *f != float64(id) {
			return fmt.Errorf("row %d %q %v", id, s, a)
		}
		n++
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("rows %w", err)
	}
	if n != 500 {
		return fmt.Errorf("%d rows", n)
	}
	return nil
}
