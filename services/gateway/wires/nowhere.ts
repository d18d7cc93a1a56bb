// GET /health as product-analytics clients know it, and every path that is nobody's: nothing of its request is read.
import { refused } from "../refusals.ts";
import type { Wire } from "../wire.ts";
import { assertForm } from "./batch.ts";

export const NOWHERE: Wire = {
  async answer(request, { path, query }) {
    const { method = "", url = path } = request;
    if (path !== "/health" || (method !== "GET" && method !== "HEAD")) throw refused("not_found", { method, url });
    assertForm(request, query);
    return { ok: true };
  },
  refusalBody: ({ message }) => ({ status: "error", error: message }),
};
