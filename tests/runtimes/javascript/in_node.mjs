// node in_node.mjs JOBS.json: results on standard output.
import { readFileSync } from "node:fs";

import * as api from "sprint-export";

import { runJobs } from "./jobs.js";

process.stdout.write(JSON.stringify(await runJobs(api, JSON.parse(readFileSync(process.argv[2], "utf8")))));
