// Older frontends do not know /?template=NAME&source=PACK. What they open is what they find as the last workflow in the
// browser's storage, once extensions are set up: so the template is put there first.

import { app } from "../../scripts/app.js";

// Those of late 2025 learnt it. One that knows it and is taken for older opens the template twice, which does no harm.
const KNOWS_TEMPLATES = [1, 36];

function knowsTemplates() {
  const [major, minor] = (window.__COMFYUI_FRONTEND_VERSION__ ?? "0.0").split(".").map(Number);
  return major > KNOWS_TEMPLATES[0] || (major === KNOWS_TEMPLATES[0] && minor >= KNOWS_TEMPLATES[1]);
}

app.registerExtension({
  name: "DEIG.Opener",

  async setup() {
    const asked = new URLSearchParams(location.search);
    const [template, source] = [asked.get("template"), asked.get("source")];
    if (!template || !source || knowsTemplates()) return;
    const path = `/api/workflow_templates/${encodeURIComponent(source)}/${encodeURIComponent(template)}.json`;
    const answer = await fetch(path);
    if (!answer.ok) throw new Error(`The server has no template ${template} of ${source}: ${answer.status}.`);
    localStorage.setItem("workflow", await answer.text());
    localStorage.setItem("Comfy.PreviousWorkflow", `${template}.json`);
    // Opened again, the page shows what the user has made of it.
    history.replaceState(null, "", location.pathname);
  },
});
