// Three Kafka brokers as teams run them: replicated, clients over TLS with SCRAM, PLAIN or a certificate, and a proxy on each
// way in, so that a broker can be cut off from its clients or from its peers.
import { readFile, writeFile } from "node:fs/promises";
import { createTestCertificates, type TestCertificates } from "./certificates.ts";
import { freePort } from "./free-port.ts";
import { startOn, type TestBroker } from "./kafka.ts";
import { createStorage, newId, runKafkaToolAside } from "./kafka-java.ts";
import { activeController, countBrokers, type PartitionState, partitionStates } from "./kafka-metadata.ts";
import { patience } from "./patience.ts";
import { startTcpProxy, type TcpProxy } from "./tcp-proxy.ts";
import { until } from "./until.ts";

export type Login = "scram-sha-256" | "scram-sha-512" | "plain" | "certificate";

export interface ClusterBroker extends TestBroker {
  readonly id: number;
  /** Of the listener for peers, without TLS and login; whoever comes here may do everything. */
  readonly peerPort: number;
  /** The ways in of clients with a password and of clients with a certificate. */
  readonly clientLinks: readonly TcpProxy[];
  /** Whether nothing passes between it and the other brokers and controllers. */
  cutFromPeers(on: boolean): void;
  cutFromClients(on: boolean): void;
  /** Has it show another certificate, without a restart; clients know its authority already. */
  replaceCertificate(): Promise<void>;
}

export interface TestKafkaCluster extends AsyncDisposable {
  readonly brokers: readonly ClusterBroker[];
  /** Addresses of the listener for peers, for tests that look at the brokers themselves. */
  readonly peers: string[];
  readonly files: TestCertificates;
  /** Settings of Millrace for this login. */
  env(login: Login): Record<string, string>;
  /** By partition, as a broker that answers sees them, other than `except`. */
  partitions(topic: string, except?: number): Promise<Map<number, PartitionState>>;
  /** The broker that is the active controller; rejects when there is none for long. */
  controller(): Promise<ClusterBroker>;
  /** From now on SCRAM logins need this password; who is logged in stays. */
  changePassword(password: string): Promise<void>;
  /** Runs one of Kafka's own tools against the brokers. */
  tool(mainClass: string, args: readonly string[]): Promise<string>;
}

const IDS = [1, 2, 3];
const USER = "app";
/** Of SCRAM until it is changed, of PLAIN for ever. */
const PASSWORD = "app-secret";
const SECURITY = "org.apache.kafka.common.security";
const START_MS_MAX = patience(60_000);
/** Three beside everything else of a test, on two cores. */
const JAVA = ["-Xms128m", "-Xmx384m"];

interface Ports {
  peer: number;
  controller: number;
  sasl: number;
  mutual: number;
}

/** Behind proxies only its clients are, unless `peerLinks`. Resolves when all three know each other. */
export async function startKafkaCluster({ peerLinks = false, links = true } = {}): Promise<TestKafkaCluster> {
  await using stack = new AsyncDisposableStack();
  const files = stack.use(await createTestCertificates());
  await files.make("app");
  // A broker takes another certificate for the same name only.
  for (const id of IDS) for (const next of ["", "-next"]) await files.make(`broker-${id}${next}`, `broker-${id}`);
  const authorities = await Promise.all(
    IDS.flatMap((id) => [`broker-${id}`, `broker-${id}-next`]).map((name) => readFile(files.certFile(name), "utf8")),
  );
  const authorityFile = `${files.certFile("app")}.authorities`;
  await writeFile(authorityFile, authorities.join(""));
  let password = PASSWORD;

  const ports = new Map<number, Ports>();
  for (const id of IDS) {
    const [peer, controller, sasl, mutual] = [await freePort(), await freePort(), await freePort(), await freePort()];
    ports.set(id, { peer, controller, sasl, mutual });
  }
  const portsOf = (id: number) => ports.get(id) as Ports;
  const proxyTo = async (targetPort: number) => stack.use(await startTcpProxy({ targetPort }));

  const nodes = new Map<number, { clients: TcpProxy[]; peer: TcpProxy | undefined; towards: Map<number, TcpProxy> }>();
  for (const id of IDS) {
    const { sasl, mutual, peer } = portsOf(id);
    const towards = new Map<number, TcpProxy>();
    if (peerLinks) {
      for (const other of IDS) if (other !== id) towards.set(other, await proxyTo(portsOf(other).controller));
    }
    const clients = links ? [await proxyTo(sasl), await proxyTo(mutual)] : [];
    nodes.set(id, { clients, peer: peerLinks ? await proxyTo(peer) : undefined, towards });
  }
  const nodeOf = (id: number) => nodes.get(id) as NonNullable<ReturnType<typeof nodes.get>>;
  const clientPort = (id: number, isMutual: boolean) =>
    nodeOf(id).clients[isMutual ? 1 : 0]?.port ?? portsOf(id)[isMutual ? "mutual" : "sasl"];

  const clusterId = newId();
  async function start(id: number): Promise<ClusterBroker> {
    const { peer, controller } = portsOf(id);
    const { clients, peer: peerLink, towards } = nodeOf(id);
    const keyStore = await writeKeyStore(files, `broker-${id}`);
    const voters = IDS.map((to) => `${to}@127.0.0.1:${towards.get(to)?.port ?? portsOf(to).controller}`).join(",");
    const advertised = { PEER: peerLink?.port ?? peer, SASL: clientPort(id, false), MUTUAL: clientPort(id, true) };
    const storage = await createStorage({
      node: { id, clusterId, port: peer, controllerPort: controller },
      format: ["SCRAM-SHA-256", "SCRAM-SHA-512"].flatMap((kind) => [
        "--add-scram",
        `${kind}=[name=${USER},password=${password}]`,
      ]),
      properties: () =>
        clusterProperties({ id, voters, advertised, keyStore, trustStore: files.certFile("app"), ...portsOf(id) }),
    });
    const broker = await startOn(storage, JAVA);
    const cut = (proxies: readonly (TcpProxy | undefined)[], on: boolean) => {
      for (const proxy of proxies) {
        proxy?.refuse(on);
        if (on) proxy?.resetAll();
      }
    };
    return {
      ...broker,
      id,
      peerPort: peer,
      clientLinks: clients,
      cutFromClients: (on) => cut(clients, on),
      cutFromPeers(on) {
        const inwards = IDS.map((other) => nodeOf(other).towards.get(id));
        cut([peerLink, ...towards.values(), ...inwards], on);
      },
      async replaceCertificate() {
        const next = await writeKeyStore(files, `broker-${id}-next`);
        const config = [`listener.name.sasl.ssl.keystore.location=${next}`, "listener.name.sasl.ssl.keystore.type=PEM"];
        const args = [
          "--entity-type",
          "brokers",
          "--entity-name",
          String(id),
          "--alter",
          "--add-config",
          config.join(","),
        ];
        await tool("kafka.admin.ConfigCommand", args);
      },
    };
  }

  const settled = await Promise.allSettled(IDS.map(start));
  const brokers = settled.flatMap((result) => (result.status === "fulfilled" ? [stack.use(result.value)] : []));
  const failed = settled.find((result) => result.status === "rejected");
  if (failed) throw failed.reason;
  const all = async () => {
    const counts = await Promise.all(brokers.map(({ peerPort }) => countBrokers(peerPort)));
    return counts.every((count) => count === IDS.length);
  };
  await until(all, "all brokers know each other", START_MS_MAX);

  const peers = IDS.map((id) => `127.0.0.1:${portsOf(id).peer}`);
  function tool(mainClass: string, args: readonly string[]): Promise<string> {
    return runKafkaToolAside(mainClass, ["--bootstrap-server", peers.join(","), ...args]);
  }
  const owned = stack.move();
  return {
    brokers,
    peers,
    files,
    env(login) {
      const isMutual = login === "certificate";
      const common = {
        KAFKA_BROKERS: IDS.map((id) => `127.0.0.1:${clientPort(id, isMutual)}`).join(","),
        KAFKA_SSL_CA: authorityFile,
      };
      if (isMutual) return { ...common, KAFKA_SSL_CERT: files.certFile("app"), KAFKA_SSL_KEY: files.keyFile("app") };
      return {
        ...common,
        KAFKA_SASL_MECHANISM: login,
        KAFKA_SASL_USERNAME: USER,
        KAFKA_SASL_PASSWORD: login === "plain" ? PASSWORD : password,
      };
    },
    async partitions(topic, except) {
      for (const { id, peerPort } of brokers) {
        if (id === except) continue;
        const states = await partitionStates(peerPort, topic);
        if (states !== undefined && states.size > 0) return states;
      }
      throw new Error(`no broker tells of ${topic}`);
    },
    async controller() {
      let id: number | undefined;
      await until(
        async () => {
          for (const { peerPort } of brokers) id ??= await activeController(peerPort);
          return id !== undefined;
        },
        "there is an active controller",
        START_MS_MAX,
      );
      return brokers.find((broker) => broker.id === id) as ClusterBroker;
    },
    async changePassword(next) {
      // One mechanism at a time: Kafka takes no two changes of a user in one request.
      for (const kind of ["SCRAM-SHA-256", "SCRAM-SHA-512"]) {
        const change = ["--alter", "--add-config", `${kind}=[password=${next}]`];
        await tool("kafka.admin.ConfigCommand", ["--entity-type", "users", "--entity-name", USER, ...change]);
      }
      password = next;
    },
    tool,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** Each is alone in its rack. */
export const rackOf = (brokerId: number) => `rack-${brokerId}`;

/** Key and certificate in one file, as Kafka reads PEM. */
async function writeKeyStore(files: TestCertificates, name: string): Promise<string> {
  const place = `${files.keyFile(name)}.pem`;
  await writeFile(
    place,
    (await readFile(files.keyFile(name), "utf8")) + (await readFile(files.certFile(name), "utf8")),
  );
  return place;
}

function clusterProperties(
  of: Ports & {
    id: number;
    voters: string;
    advertised: Record<string, number>;
    keyStore: string;
    trustStore: string;
  },
): string {
  const listening = { PEER: of.peer, SASL: of.sasl, MUTUAL: of.mutual, CONTROLLER: of.controller };
  const addresses = (ports: Record<string, number>) =>
    Object.entries(ports)
      .map(([name, port]) => `${name}://127.0.0.1:${port}`)
      .join(",");
  return `node.id=${of.id}
broker.rack=${rackOf(of.id)}
replica.selector.class=org.apache.kafka.common.replica.RackAwareReplicaSelector
controller.quorum.voters=${of.voters}
listeners=${addresses(listening)}
advertised.listeners=${addresses(of.advertised)}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PEER:PLAINTEXT,SASL:SASL_SSL,MUTUAL:SSL
inter.broker.listener.name=PEER
ssl.keystore.type=PEM
ssl.keystore.location=${of.keyStore}
ssl.truststore.type=PEM
ssl.truststore.location=${of.trustStore}
listener.name.mutual.ssl.client.auth=required
listener.name.sasl.sasl.enabled.mechanisms=SCRAM-SHA-256,SCRAM-SHA-512,PLAIN
listener.name.sasl.scram-sha-256.sasl.jaas.config=${SECURITY}.scram.ScramLoginModule required;
listener.name.sasl.scram-sha-512.sasl.jaas.config=${SECURITY}.scram.ScramLoginModule required;
listener.name.sasl.plain.sasl.jaas.config=${SECURITY}.plain.PlainLoginModule required user_${USER}="${PASSWORD}";
default.replication.factor=3
min.insync.replicas=2
offsets.topic.replication.factor=3
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
broker.session.timeout.ms=6000
broker.heartbeat.interval.ms=500
controller.quorum.election.timeout.ms=1000
controller.quorum.fetch.timeout.ms=2000
controller.quorum.election.backoff.max.ms=500
leader.imbalance.check.interval.seconds=5
num.network.threads=2
num.io.threads=4
`;
}
