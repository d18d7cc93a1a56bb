// Loaded before every test file: what waits for a condition gives up later on a slow machine, never sooner.
import { expect, vi } from "vitest";
import { patience } from "./patience.ts";

const PATIENT = Symbol.for("millrace.patient");

function patient<Options extends { timeout?: number }>(options: number | Options = {} as Options): Options {
  const given = typeof options === "number" ? ({ timeout: options } as Options) : options;
  return { ...given, timeout: patience(given.timeout ?? 1_000) };
}

/** Once in a process, which may run many files. */
function makePatient(): void {
  if (Reflect.has(vi, PATIENT)) return;
  Reflect.set(vi, PATIENT, true);
  const { waitFor, waitUntil } = vi;
  vi.waitFor = (callback, options) => waitFor(callback, patient(options));
  vi.waitUntil = (callback, options) => waitUntil(callback, patient(options));
  const { poll } = expect;
  // Without a timeout of its own it has that of vitest.config.ts, which is patient.
  expect.poll = (callback, options) => poll(callback, options?.timeout === undefined ? options : patient(options));
}

makePatient();
