import { defineConfig } from "vitest/config";
import { createCiReporter } from "./test/kit/ci-reporter.ts";

/** Tests that measure times, or that need the machine for themselves: one file at a time, after everything else. */
const ALONE = ["test/e2e/standalone.test.ts", "test/integrity/{bench-smoke,chaos,consumer-breaker}.test.ts"];

/** Tests of how long something takes that is mostly waiting: fewer of them at once. */
const TIMED = ["test/e2e/{broker-away,rebalance-stall,kafka-outages}.test.ts", "test/browser/**/*.test.ts"];

export default defineConfig({
  test: {
    reporters: ["default", createCiReporter({ strict: process.env.CI === "true" })],
    pool: "forks",
    setupFiles: process.env.KEEP_DATA === "true" ? ["test/kit/keep-data.ts"] : [],
    // One more than processors: much of it is waiting for brokers, ClickHouse and whole services.
    maxWorkers: 3,
    projects: [
      {
        extends: true,
        test: {
          name: "parts",
          include: ["{chaos,commands,lib,sdk,services}/**/*.test.ts", "test/{component,kit}/**/*.test.ts"],
          exclude: ["chaos/standalone.test.ts"],
          testTimeout: 30_000,
          hookTimeout: 60_000,
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true,
        test: {
          name: "standalone",
          // The contract of POST /batch/ once more, against `millrace start`.
          include: ["test/component/gateway-batch-{access,contract,paths}.test.ts"],
          env: { CONTRACT_GATEWAY: "standalone" },
          testTimeout: 30_000,
          hookTimeout: 60_000,
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true,
        test: {
          name: "whole",
          include: ["test/{e2e,integrity}/**/*.test.ts", "chaos/standalone.test.ts"],
          exclude: [...ALONE, ...TIMED],
          testTimeout: 180_000,
          hookTimeout: 180_000,
          sequence: { groupOrder: 1 },
        },
      },
      {
        extends: true,
        test: {
          name: "timed",
          include: TIMED,
          maxWorkers: 2,
          testTimeout: 180_000,
          hookTimeout: 180_000,
          sequence: { groupOrder: 2 },
        },
      },
      {
        extends: true,
        test: {
          name: "alone",
          include: ALONE,
          fileParallelism: false,
          testTimeout: 180_000,
          hookTimeout: 180_000,
          sequence: { groupOrder: 3 },
        },
      },
    ],
  },
});
