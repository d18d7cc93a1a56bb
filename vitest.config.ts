import { defineConfig } from "vitest/config";
import { createCiReporter } from "./test/support/ci-reporter.ts";

export default defineConfig({
  test: {
    reporters: ["default", createCiReporter({ strict: process.env.CI === "true" })],
    pool: "forks",
    projects: [
      {
        extends: true,
        test: {
          name: "parts",
          include: ["lib/**/*.test.ts", "services/**/*.test.ts", "test/component/**/*.test.ts"],
          testTimeout: 30_000,
          hookTimeout: 60_000,
          maxWorkers: 2,
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true,
        test: {
          name: "whole",
          include: ["test/**/*.test.ts"],
          exclude: ["test/component/**", "**/node_modules/**"],
          // These start brokers, ClickHouse and whole services: one file at a time, after everything else.
          fileParallelism: false,
          sequence: { groupOrder: 1 },
          testTimeout: 180_000,
          hookTimeout: 180_000,
        },
      },
    ],
  },
});
