// Default settings of the benched services, read from their schemas.
import { z } from "zod";
import { parseConfig } from "#lib/config/parse.ts";

/** A service's settings as they are when nobody sets anything. */
export function defaultsOf<Shape extends z.ZodRawShape>(settings: Shape): z.output<z.ZodObject<Shape>> {
  const outcome = parseConfig(z.object(settings), { argv: [], env: {}, command: "bench", summary: "" });
  if (outcome.kind !== "config") throw new Error(outcome.text);
  return outcome.config as z.output<z.ZodObject<Shape>>;
}
