import { render } from "preact";
import "./style.css";
import { openSource } from "./data/source";
import { App } from "./panels/app";
import { openExplorer } from "./view/explorer";

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
  } catch (error) {
    root.textContent = `The run cannot be shown: ${error instanceof Error ? error.message : String(error)}`;
  }
}

void start();
