import { expect, it, vi } from "vitest";

it("a wait lasts longer than it says, on every machine", async () => {
  const begun = performance.now();
  const isLater = () => performance.now() - begun > 150;
  await expect.poll(isLater, { timeout: 100, interval: 10 }).toBe(true);
  const again = performance.now();
  await vi.waitFor(() => expect(performance.now() - again).toBeGreaterThan(150), { timeout: 100, interval: 10 });
});
