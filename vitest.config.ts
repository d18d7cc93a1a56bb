import { availableParallelism } from "node:os";
import { defineConfig } from "vitest/config";
import { createCiReporter } from "./test/kit/ci-reporter.ts";
import { LongestFirst } from "./test/kit/longest-first.ts";
import { keepDataInMemory } from "./test/kit/memory-disk.ts";
import { measureSlowness, patience } from "./test/kit/patience.ts";

measureSlowness();
keepDataInMemory();

/** What measures how much the machine does: by itself, after everything else. */
const ALONE = ["test/integrity/{bench-smoke,strangers}.test.ts"];

/** Tests of how long something takes that is mostly waiting: fewer of them at once. */
const TIMED = ["test/e2e/{broker-away,rebalance-stall,kafka-outages}.test.ts"];

/** Parts that leave nothing behind in their process, which therefore runs many of them. */
const SHARING = [
  "test/component/{agent,alert-*,alerts-*,client-*,connections,credentials,deploy-*,doctor,event-queries}.test.ts",
  // gateway-strangers measures the memory of its process.
  "test/component/{gateway-!(strangers),import,openapi,queries,relay-*,secrets,stats-*,tls,where}.test.ts",
  "test/component/{cluster-statements,completion,dashboards,ddl,docs,guarantees,lint-rules}.test.ts",
  "test/component/{metrics-docs,print-config,release,warehouse-requests,wires-docs}.test.ts",
];

/** What ends when it hangs, and not when the machine is busy. */
const PARTS = { testTimeout: patience(60_000), hookTimeout: patience(90_000) };
const WHOLE = { testTimeout: patience(180_000), hookTimeout: patience(180_000) };

export default defineConfig({
  test: {
    reporters: ["default", createCiReporter({ strict: process.env.CI === "true" })],
    pool: "forks",
    setupFiles: ["test/kit/patient.ts", ...(process.env.KEEP_DATA === "true" ? ["test/kit/keep-data.ts"] : [])],
    expect: { poll: { timeout: patience(2_000) } },
    // Twice as many as processors: half of it is waiting, for brokers, sessions, ClickHouse and the ends of loads.
    maxWorkers: Math.min(4, 2 * availableParallelism()),
    sequence: { sequencer: LongestFirst },
    projects: [
      {
        extends: true,
        test: {
          name: "units",
          // Beside the code they test. One process runs many of them: starting one takes longer than most of them.
          include: ["{chaos,commands,lib,sdk,services}/**/*.test.ts"],
          exclude: ["chaos/standalone.test.ts"],
          isolate: false,
          ...PARTS,
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true,
        test: {
          name: "sharing",
          include: SHARING,
          isolate: false,
          ...PARTS,
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true,
        test: {
          name: "parts",
          include: ["test/{component,kit}/**/*.test.ts"],
          exclude: SHARING,
          ...PARTS,
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
          ...PARTS,
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true,
        test: {
          name: "whole",
          include: ["test/{browser,e2e,integrity}/**/*.test.ts", "chaos/standalone.test.ts"],
          exclude: [...ALONE, ...TIMED],
          ...WHOLE,
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true,
        test: {
          name: "timed",
          include: TIMED,
          maxWorkers: 2,
          ...WHOLE,
          sequence: { groupOrder: 1 },
        },
      },
      {
        extends: true,
        test: {
          name: "alone",
          include: ALONE,
          fileParallelism: false,
          ...WHOLE,
          sequence: { groupOrder: 2 },
        },
      },
    ],
  },
});
