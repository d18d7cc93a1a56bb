// Names under which other systems know our settings. This is the only place that translates them.

export type Translation = { values: Record<string, string> } | { fault: string };

export interface Alias {
  /** In the spelling of schema keys; flag, variable and file key follow from it as for any setting. */
  name: string;
  /** Keys it may set; it exists only where a schema has the first of them. */
  targets: readonly [string, ...string[]];
  translate(value: string): Translation;
}

export const ALIASES: readonly Alias[] = [
  { name: "httpPort", targets: ["port"], translate: (value) => ({ values: { port: value } }) },
  {
    name: "clickhouseDsn",
    targets: ["clickhouseUrl", "clickhouseUser", "clickhousePassword", "clickhouseDatabase"],
    translate: translateDsn,
  },
];

/**
 * `http://host:8123?user=app&password=app` and `http://user:password@host:8123/database`. Only what the address says is
 * set; the rest keeps its own setting or default.
 */
function translateDsn(value: string): Translation {
  const url = URL.parse(value.trim());
  if (!url || !/^https?:$/.test(url.protocol)) {
    return { fault: "expected the HTTP address of ClickHouse, such as http://host:8123?user=app&password=secret" };
  }
  const values: Record<string, string> = { clickhouseUrl: `${url.protocol}//${url.host}` };
  try {
    if (url.username) values.clickhouseUser = decodeURIComponent(url.username);
    if (url.password) values.clickhousePassword = decodeURIComponent(url.password);
    if (url.pathname.length > 1) values.clickhouseDatabase = decodeURIComponent(url.pathname.slice(1));
  } catch {
    // decodeURIComponent throws for a % that begins no escape, nothing else.
    return { fault: "expected % in user, password and database to be written as %25" };
  }
  for (const [name, parameter] of url.searchParams) {
    const key = DSN_PARAMETERS.get(name);
    if (key === undefined)
      return { fault: `does not know the parameter ${name}; it takes user, password and database` };
    if (values[key] !== undefined && values[key] !== parameter) return { fault: `gives ${name} twice, differently` };
    values[key] = parameter;
  }
  return { values };
}

const DSN_PARAMETERS = new Map([
  ["user", "clickhouseUser"],
  ["username", "clickhouseUser"],
  ["password", "clickhousePassword"],
  ["database", "clickhouseDatabase"],
]);
