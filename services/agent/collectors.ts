// What a host says about itself. Names of values carry their subject, because history keeps them without the collector's.
import os from "node:os";
import si from "systeminformation";
import type { Collector } from "../../sdk/node/src/index.ts";

/** By name. Shares are percent, rates are a second and since the values were last taken. */
export function createHostCollectors(): Record<(typeof BUILT_IN_NAMES)[number], Collector> {
  return { cpu: collectCpu, ram: collectRam, disk: collectDisk, net: collectNet, load: collectLoad };
}

export const BUILT_IN_NAMES: readonly string[] = ["cpu", "ram", "disk", "net", "load"];

async function collectCpu() {
  const load = await si.currentLoad();
  return { cpu_used: load.currentLoad, cpu_user: load.currentLoadUser, cpu_system: load.currentLoadSystem };
}

async function collectRam() {
  const { total, available, swaptotal, swapused } = await si.mem();
  return {
    // What could be given to programs at once is not used, whatever it holds meanwhile.
    ram_used: percent(total - available, total),
    ram_used_bytes: total - available,
    ram_available_bytes: available,
    // A host without swap has used none of it.
    swap_used: swaptotal > 0 ? percent(swapused, swaptotal) : 0,
  };
}

/** `disk_used` and `disk_free_bytes` are of the root file system, `disk_used_max` of the fullest one. */
async function collectDisk(): Promise<Record<string, number>> {
  const systems = (await si.fsSize()).filter(({ size }) => size > 0);
  const root = systems.find(({ mount }) => mount === "/") ?? systems[0];
  if (!root) return {};
  return {
    disk_used: root.use,
    disk_free_bytes: root.available,
    disk_used_max: Math.max(...systems.map(({ use }) => use)),
  };
}

/** Sums over all interfaces but loopback. The first call has no earlier one to compare with, and no values. */
async function collectNet(): Promise<Record<string, number>> {
  const interfaces = (await si.networkStats("*")).filter(({ iface }) => iface !== "lo" && !iface.startsWith("lo0"));
  const sum = (read: (each: si.Systeminformation.NetworkStatsData) => number | null) =>
    interfaces.reduce((total, each) => total + (read(each) ?? 0), 0);
  if (interfaces.every(({ rx_sec }) => rx_sec === null)) return {};
  return { net_rx_bytes: sum((each) => each.rx_sec), net_tx_bytes: sum((each) => each.tx_sec) };
}

function collectLoad() {
  const [load1 = 0, load5 = 0, load15 = 0] = os.loadavg();
  return { load_1m: load1, load_5m: load5, load_15m: load15 };
}

function percent(part: number, whole: number): number {
  return (100 * part) / whole;
}
