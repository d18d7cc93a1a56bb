// On a server: prints the page as HTML.
import { renderToString } from "react-dom/server";
import { App } from "./react-app.jsx";

process.stdout.write(renderToString(<App {...JSON.parse(process.argv[2])} />));
