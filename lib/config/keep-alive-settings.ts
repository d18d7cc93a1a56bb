// How long a listener keeps a connection without requests.
import { duration } from "./settings.ts";

export const keepAliveSettings = {
  keepAliveTimeout: duration("620s", { min: 1000 }).describe(
    "Time without a request after which a connection is closed: more than the load balancer's in front of it, which is 600 s at Google's and 60 s at most others.",
  ),
};
