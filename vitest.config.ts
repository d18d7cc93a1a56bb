import { defineConfig } from "vitest/config";
import { createCiReporter } from "./test/support/ci-reporter.ts";

const SCRIPTED = [
  "test/integrity/consumer-{deaths,doubt,outage,properties,rebalance,reset}.test.ts",
  "test/integrity/safeguards.test.ts",
];

export default defineConfig({
  test: {
    reporters: ["default", createCiReporter({ strict: process.env.CI === "true" })],
    pool: "forks",
    projects: [
      {
        extends: true,
        test: {
          name: "parts",
          include: ["chaos/**/*.test.ts", "lib/**/*.test.ts", "services/**/*.test.ts", "test/component/**/*.test.ts"],
          exclude: ["chaos/standalone.test.ts"],
          testTimeout: 30_000,
          hookTimeout: 60_000,
          maxWorkers: 2,
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true,
        test: {
          name: "scripted",
          // The real consumer and ClickHouse on a scripted log: mostly waiting, so two at a time.
          include: SCRIPTED,
          maxWorkers: 2,
          sequence: { groupOrder: 1 },
          testTimeout: 180_000,
          hookTimeout: 180_000,
        },
      },
      {
        extends: true,
        test: {
          name: "whole",
          include: ["test/**/*.test.ts", "chaos/standalone.test.ts"],
          exclude: ["test/component/**", ...SCRIPTED],
          // These start brokers, ClickHouse and whole services: one file at a time, after everything else.
          fileParallelism: false,
          sequence: { groupOrder: 2 },
          testTimeout: 180_000,
          hookTimeout: 180_000,
        },
      },
    ],
  },
});
