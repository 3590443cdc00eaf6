import { render } from "preact";
import "./style.css";
import { openSource, post } from "./data/source";
import { App } from "./panels/app";
import { openExplorer } from "./view/explorer";

const READY_AFTER = 2000; // ms from the page to the start of the network's process

async function start(): Promise<void> {
  const root = document.getElementById("app");
  if (!root) return;
  try {
    const narrow = window.innerWidth < 900;
    const explorer = await openExplorer(openSource(), narrow ? 1 : 4);
    document.documentElement.dataset.theme = explorer.theme;
    root.textContent = "";
    render(<App explorer={explorer} />, root);
    document.documentElement.dataset.ready = "yes";
    const { live, network } = explorer.manifest;
    if (live && network) setTimeout(() => void post("ask/ready", {}).catch(() => undefined), READY_AFTER);
  } catch (error) {
    root.textContent = `The run cannot be shown: ${error instanceof Error ? error.message : String(error)}`;
  }
}

void start();
